"""Tests that start several processes are slow."""

from pathlib import Path

import pytest

STARTED = {"two", "four"}
"""Fixtures that start so many processes, which takes longer than any test that looks at what they did."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if item.path.parent == Path(__file__).parent and STARTED & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
