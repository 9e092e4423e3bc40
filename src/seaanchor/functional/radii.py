"""Radii of perturbations in pixel units, and which of them mean something. Nothing heavy is imported here: settings are
checked by it, too."""

import math
from collections.abc import Sequence

from seaanchor.errors import SeaAnchorError, note

LARGE = 1 / 8  # of the greatest distance of two images; robustness is measured at a hundredth of it and below


def check_radius(
    epsilon: float,
    norm: str = "linf",
    shape: Sequence[int] | None = None,
    text: str | float | None = None,
    name: str = "epsilon",
) -> None:
    """Fail where a radius (or a step) leaves no room: pixels are in [0, 1], so that no two images are farther apart
    than 1 in l-inf and √(C·H·W) in l2.

    Args:
        epsilon: in pixel units.
        norm: `linf` or `l2`.
        shape: of an image (C, H, W); without it an l2 radius has no upper limit.
        text: how the user wrote it.
        name: of the setting, for the error.

    Raises:
        SeaAnchorError: negative, infinite or no number, or larger than all differences of images.
    """
    shown = f"{epsilon:g}" if text is None else str(text)
    if not 0 <= epsilon < float("inf"):
        raise SeaAnchorError(f"{name} {shown}", "a finite radius of at least 0", "give another value")
    meant = f"did you mean {epsilon:g}/255?"
    if norm == "linf" and epsilon > 1:
        raise SeaAnchorError(f"{name} {shown}", "an l-inf radius in [0, 1], pixels being in [0, 1]", meant)
    if norm != "l2" or shape is None:
        return
    farthest, size = math.sqrt(math.prod(shape)), " × ".join(map(str, shape[1:]))
    if epsilon > farthest * (1 + 1e-6):
        raise SeaAnchorError(
            f"{name} {shown} in l2 at {size} pixels",
            f"at most {farthest:.4g}, the distance of black and white: pixels are in [0, 1]",
            meant,
        )
    if epsilon > LARGE * farthest:
        note(
            f"{name} {shown} in l2 is {epsilon / farthest:.0%} of the distance of black and white at {size} pixels "
            f"({farthest:.4g}); {meant}"
        )
