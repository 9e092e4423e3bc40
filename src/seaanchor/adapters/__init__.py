"""Adapters: which parameters move."""
