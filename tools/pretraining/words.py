"""The words that the embedded model learns to read besides the names of what it sees."""

from functools import cache
from importlib.resources import files
from pathlib import Path

ROOT = Path(str(files("seaanchor"))) / "zoo"


@cache
def common_words() -> tuple[str, ...]:
    """Lower-case English words of 3 to 10 letters (from CLDR's emoji keywords)."""
    return tuple((ROOT / "data" / "words.txt").read_text().split())
