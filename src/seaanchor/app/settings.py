"""What the page offers and its limits. Nothing heavy is imported, so that the page is there before the models are."""

import math
from pathlib import Path
from typing import Any

from seaanchor.encoders.embedded import ZOO
from seaanchor.errors import SeaAnchorError

MODEL = "seaanchor-lite"
"""The embedded model that the page opens on, with its hardened siblings of the same name."""
SIBLINGS = ("lore", "dpo")
DATA = "photos"
ATTACKS = ("PGD", "APGD")
LARGEST, MOST_STEPS = 16, 40  # of ε in 255ths; of gradient steps
LOWEST, HIGHEST = -2.0, 2.0  # of t
MOST_CLASSES, MOST_BYTES = 1000, 25_000_000  # of a list; of an upload
EXAMPLES = 8
EMPTY = '<p class="sa-hint">Choose a photo on this page, or one of your own.</p>'
WAITING = '<p class="sa-hint" role="status">The models are still being loaded.</p>'

_PHOTOS = ZOO.parent / "data" / DATA / "test"


def default_class_names() -> tuple[str, ...]:
    """The classes of the embedded photos, as `open_images` names them."""
    return tuple(folder.name.replace("_", " ") for folder in _class_folders())


def example_files() -> list[Path]:
    """An embedded photo of as many classes, spread over all of them."""
    folders = _class_folders()
    return [min(folder.iterdir()) for folder in folders[:: max(1, len(folders) // EXAMPLES)][:EXAMPLES]]


def number(value: Any, name: str, lowest: float, highest: float, change: str = "correct it") -> float:
    """What a field of the page holds: nothing at all while it is being edited.

    Args:
        value: what came.
        name: of the quantity.
        lowest, highest: what is possible.
        change: what to do about another value.

    Raises:
        SeaAnchorError: no number, or one out of range.
    """
    if isinstance(value, int | float) and math.isfinite(value) and lowest <= value <= highest:
        return value
    found = "nothing" if value is None else f"{value:g}" if isinstance(value, int | float) else repr(value)
    raise SeaAnchorError(f"{name} is {found}", f"a number from {lowest:g} to {highest:g}", change)


def _class_folders() -> list[Path]:
    return sorted(path for path in _PHOTOS.iterdir() if path.is_dir())
