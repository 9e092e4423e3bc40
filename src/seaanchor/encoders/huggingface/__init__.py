"""Models of transformers (extra `hf`)."""
