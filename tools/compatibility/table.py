"""docs/compatibility.md."""

from pathlib import Path
from typing import Any


def write_table(page: Path, names: list[str], results: dict[str, dict[str, Any]]) -> None:
    """Write the page."""
