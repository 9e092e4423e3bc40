"""Data sets of the Hugging Face library."""
