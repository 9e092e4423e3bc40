"""Exports: to the formats people load, each verified by reloading."""
