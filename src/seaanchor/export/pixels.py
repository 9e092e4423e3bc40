"""Whether the library that loads an export reads pictures as the encoder did.

Legend: S side of the square in pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seaanchor.data.preprocessing import to_square
from seaanchor.encoders.encoder import Encoder
from seaanchor.errors import SeaAnchorError

TOLERANCE = 0.05  # levels of 255 that normalising and its inverse may round
ROUNDED = 1 + TOLERANCE  # and where resizing rounds otherwise


def check_pixels(encoder: Encoder, see: Callable[[Any], Tensor], folder: object, rounds: bool = False) -> None:
    """Compare two pictures, one wide and one tall, as both of them see them.

    Args:
        encoder: ours.
        see: the library's own transform: a PIL picture → normalised pixels (3, S, S).
        folder: the export, for the message.
        rounds: whether a level more or less is no difference; the pictures then are cropped by whole pixels.

    Raises:
        SeaAnchorError: they differ.
    """
    from PIL import Image

    rng, side = torch.Generator().manual_seed(0), encoder.image_size
    mean, std = encoder.mean.cpu(), encoder.std.cpu()
    shapes = ((side // 2 + 5, 2 * side + 3), (3 * side + 1, side + 2))
    if rounds:
        shapes = ((2 * side, 2 * (side + 4)), (3 * (side + 8), 3 * side))
    for height, width in shapes:
        noise_HWC = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=rng)
        picture = Image.fromarray(noise_HWC.numpy())
        ours, theirs = to_square(picture, encoder.preprocessing), 255 * (see(picture) * std + mean)
        if theirs.shape == ours.shape and (off := float((theirs - ours).abs().max())) <= (
            ROUNDED if rounds else TOLERANCE
        ):
            continue
        said = f"{off:.1f} of 255 levels off" if theirs.shape == ours.shape else f"of shape {tuple(theirs.shape)}"
        raise SeaAnchorError(
            f"the library that loads the export in {folder} reads pictures otherwise: pixels are {said}",
            f"those of {encoder.preprocessing}",
            "report this with `seaanchor env`; the checkpoint itself is intact",
        )
