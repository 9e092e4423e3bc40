"""Objectives: what should become better."""
