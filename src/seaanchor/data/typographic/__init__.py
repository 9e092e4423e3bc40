"""Folders of images that carry a word: `label=X_text=Y`."""
