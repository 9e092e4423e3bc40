"""What a model's own library makes of images and texts, and photos to compare on.

Legend: B batch, N texts, C channels, H W pixels, D embedding dimension, Y classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

SHAPES = ((320, 213), (213, 320), (256, 256), (97, 61), (640, 427), (231, 500))  # width and height
MODES = (("L", "png"), ("P", "png"), ("CMYK", "jpg"), ("RGB", "jpg"))


@dataclass(frozen=True)
class Library:
    """A model as its own library uses it; what is None is not compared.

    Attributes:
        encode_image: normalised pixels (B, C, H, W) → raw embeddings (B, D).
        encode_texts: N texts → raw embeddings (N, D).
        transform: a PIL image → normalised pixels (C, H, W).
        pixel_tolerance: how far normalised pixels may be off; one of 255 levels is about 0.015.
        classify: normalised pixels (B, C, H, W) → logits (B, Y) of the model's own classifier.
    """

    encode_image: Callable[[Tensor], Tensor] | None = None
    encode_texts: Callable[[Sequence[str]], Tensor] | None = None
    transform: Callable[[Any], Tensor] | None = None
    pixel_tolerance: float = 1e-3
    classify: Callable[[Tensor], Tensor] | None = None


def photos(folder: Path) -> Iterator[Path]:
    """Write pictures of several shapes and colour modes, smooth with noise as photos are."""
    rng = np.random.default_rng(0)
    for i, (width, height) in enumerate(SHAPES):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
        kinds = MODES if i == 0 else (("RGB", "png"),)
        for mode, ending in kinds:
            file = folder / f"{i}-{mode}.{ending}"
            Image.fromarray(noisy).convert(mode).save(file)
            yield file
