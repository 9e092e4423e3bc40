"""Hugging Face families."""

FAMILIES: dict = {}
