"""Whole numbers that come from outside: seeds, and variables of the environment."""

import os
import re

from seaanchor.errors import SeaAnchorError

SEEDS = 2**32
"""How many seeds there are: what is computed from them, beside the step and the image, still fits into the 64 bits of
torch's generators."""
NUMBER = re.compile(r"[0-9]{1,18}")


def check_seed(seed: int, name: str = "seed") -> int:
    """The seed itself.

    Args:
        seed: in [0, 2³²).
        name: of the setting or option, for the error.

    Raises:
        SeaAnchorError: it is negative, too large, or no whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEEDS:
        raise SeaAnchorError(f"{name} is {seed}", f"a whole number from 0 to {SEEDS - 1}", "choose another seed")
    return seed


def check_count(name: str, value: object, least: int = 1) -> None:
    """A whole number of at least `least`; None is not looked at.

    Raises:
        SeaAnchorError: it is something else.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise SeaAnchorError(f"{name} is {value!r}", f"a whole number of at least {least}", f"correct {name}")


def variable(name: str, default: int, least: int = 0) -> int:
    """A variable of the environment that holds a whole number, as launchers of several processes set them.

    Args:
        name: of the variable.
        default: where it is not set, or empty.
        least: its smallest value.

    Raises:
        SeaAnchorError: it holds something else.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not NUMBER.fullmatch(text) or int(text) < least:
        raise SeaAnchorError(
            f"the variable {name} is {text[:40]!r}",
            f"a whole number of at least {least}, as launchers of several processes set it",
            f"unset {name}, or use a launcher",
        )
    return int(text)
