"""Evaluation: what was gained and what it cost, always beside the reference."""
