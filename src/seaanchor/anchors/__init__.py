"""Anchors: how the policy is kept near the reference."""
