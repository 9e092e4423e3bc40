"""Pillow's resizing of the part that a crop keeps, to the last bit and faster, where numba is installed.

Pillow resizes rows, then columns. Each value is a sum of bytes with weights in whole 2⁻²²ths, rounded to a byte, so it
is the same however it is added up. Its loops take one value after the other; compiled for the processor at hand they
take 8 or 16 at once, and leave out what the crop drops.

Legend: S side of the kept square, H rows of the source, K sources of an output.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seaanchor.errors import note

BITS = 22  # of a weight
BAND = 64  # rows copied out of an image at a time
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # half the width of a filter
MANY = 500  # images; for fewer, loading the compiled loops takes longer than they save


@dataclass(frozen=True)
class Weights:
    """Of one axis, for the outputs that are kept.

    Attributes:
        first, end: the sources that any of them reads.
        begin_S: the first source of each, after `first`.
        groups_S: how many groups of four sources it has.
        weight_SK: whole 2⁻²²ths, int32; 0 beyond the sources.
    """

    first: int
    end: int
    begin_S: np.ndarray
    groups_S: np.ndarray
    weight_SK: np.ndarray


_loaded: list[ModuleType | None] = []
_missed: list[bool] = []


def prepare(count: int, read_one: Callable[[], object]) -> None:
    """Load the compiled loops if so many images are worth it, before threads or processes begin to read them.

    Args:
        count: images.
        read_one: reads one of them, which shows whether they need the loops at all.
    """
    if count < MANY or _loaded:
        return
    _missed.clear()
    read_one()
    if _missed:
        _loaded.append(_load())


def is_loaded() -> bool:
    """Whether the compiled loops are in use."""
    return bool(_loaded) and _loaded[0] is not None


def _load() -> ModuleType | None:
    """The compiled loops; None without numba, and where a trial does not give Pillow's pixels."""
    if find_spec("numba") is None:
        return None
    try:
        from seaanchor.data import resampling_kernels as kernels
    except Exception as error:  # numba refuses versions of numpy and LLVM in its own ways
        note(f"numba is installed and cannot be used, so Pillow resizes ({type(error).__name__}: {str(error)[:120]})")
        return None
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (140, 173, 3), np.uint8))
    for name in SUPPORT:
        across, down = weights(173, 74, 9, 40, name), weights(140, 60, 8, 40, name)
        theirs = image.resize((74, 60), Image.Resampling[name.upper()]).crop((9, 8, 49, 48))
        if not np.array_equal(_resize(image, across, down, kernels), np.asarray(theirs).transpose(2, 0, 1)):
            return None
    return kernels


def resized_square(
    image: Image.Image, size: tuple[int, int], corner: tuple[int, int], side: int, interpolation: str
) -> Tensor | None:
    """What `image.resize(size).crop(...)` keeps, uint8 (3, S, S); None where Pillow has to do it.

    Args:
        image: the source, in any mode.
        size: width and height that the whole picture is resized to.
        corner: left and top of the square in it.
        side: S.
        interpolation: name of the filter.
    """
    if image.mode != "RGB" or interpolation not in SUPPORT:
        return None
    (width, height), (left, top) = size, corner
    inside = min(left, top) >= 0 and left + side <= width and top + side <= height
    tall = image.height - height > 2 * (image.width - width)  # since Pillow 13 columns then come before rows
    if not inside or tall or width >= image.width or height >= image.height:
        return None
    if not _loaded or _loaded[0] is None:
        _missed[:] = [True]
        return None
    across = weights(image.width, width, left, side, interpolation)
    down = weights(image.height, height, top, side, interpolation)
    return torch.from_numpy(_resize(image, across, down, _loaded[0]))


@lru_cache(maxsize=256)
def weights(length: int, resized: int, first: int, count: int, interpolation: str) -> Weights:
    """Pillow's weights for the outputs from `first` on, of `resized` ones from `length` sources."""
    whole_SK, begin_S, size_S = whole_weights(length, resized, interpolation)
    kept = slice(first, first + count)
    whole_SK, begin_S, size_S = whole_SK[kept], begin_S[kept], size_S[kept]
    padded_SK = np.pad(whole_SK, ((0, 0), (0, -whole_SK.shape[1] % 4))).astype(np.int32)
    start, end = int(begin_S.min()), int((begin_S + size_S).max())
    return Weights(start, end, begin_S - start, -(-size_S // 4), padded_SK)


def whole_weights(length: int, resized: int, interpolation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights in whole 2⁻²²ths (S, K), the first source of each output (S,) and how many sources it has (S,), with
    Pillow's arithmetic, operation by operation."""
    scale = length / resized
    stretch = max(scale, 1.0)
    support = SUPPORT[interpolation] * stretch
    centre_S = (np.arange(resized) + 0.5) * scale
    begin_S = np.maximum((centre_S - support + 0.5).astype(np.int64), 0)
    size_S = np.minimum((centre_S + support + 0.5).astype(np.int64), length) - begin_S
    step_K = np.arange(int(np.ceil(support)) * 2 + 1)
    distance_SK = np.abs((step_K + begin_S[:, None] - centre_S[:, None] + 0.5) * (1.0 / stretch))
    value_SK = np.where(step_K < size_S[:, None], _filter(distance_SK, interpolation), 0.0)
    total_S = np.zeros(resized)
    for k in step_K:  # one after the other, as Pillow adds
        total_S = total_S + value_SK[:, k]
    scaled_SK = value_SK / total_S[:, None] * (1 << BITS)
    return np.where(scaled_SK < 0, scaled_SK - 0.5, scaled_SK + 0.5).astype(np.int64), begin_S, size_S


def _filter(x: np.ndarray, interpolation: str) -> np.ndarray:
    """Triangle, or cubic convolution (Keys 1981) with a = -0.5, at distances of at least 0."""
    if interpolation == "bilinear":
        return np.where(x < 1, 1.0 - x, 0.0)
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _resize(image: Image.Image, across: Weights, down: Weights, kernels: ModuleType) -> np.ndarray:
    """Rows, a band at a time, then columns: uint8 (3, S, S)."""
    rows, side = down.end - down.first, len(across.begin_S)
    resized_CHS = np.empty((3, rows + 3, side), np.uint8)
    for top in range(0, rows, BAND):
        bottom = min(top + BAND, rows)
        box = (across.first, down.first + top, across.end, down.first + bottom)
        band = np.frombuffer(image.crop(box).tobytes("raw", "RGBX"), np.uint8)
        band_HWC = band.reshape(bottom - top, across.end - across.first, 4)
        kernels.resize_rows(band_HWC, across.begin_S, across.groups_S, across.weight_SK, resized_CHS, top)
    square_CSS = np.empty((3, len(down.begin_S), side), np.uint8)
    kernels.resize_columns(resized_CHS, down.begin_S, down.groups_S, down.weight_SK, square_CSS)
    return square_CSS
