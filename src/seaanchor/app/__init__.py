"""The page to play with, `seaanchor app`: what it shows are functions here, and the page is a thin layer over them."""
