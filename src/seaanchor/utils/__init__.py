"""Files, paths and texts."""
