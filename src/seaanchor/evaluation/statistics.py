"""Proportions with their uncertainty, and which images they count."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor


def interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    p, zz = correct / total, z * z
    middle = (p + zz / (2 * total)) / (1 + zz / total)
    half = z / (1 + zz / total) * math.sqrt(p * (1 - p) / total + zz / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def proportion(hits: Tensor | Sequence[bool]) -> dict[str, Any]:
    """Share of true values with its 95 % interval, n, and which they are.

    Returns:
        `accuracy`, `low`, `high`, `n`, and `right`: one bit a value, in order, packed into hexadecimal digits (the
        first value is the highest bit of the first byte), so that two models can be compared image by image.

    >>> proportion([True, False, True])["right"]
    'a0'
    """
    hit_N = np.asarray(hits.cpu() if isinstance(hits, Tensor) else hits, dtype=bool)
    hit, total = int(hit_N.sum()), len(hit_N)
    low, high = interval(hit, total)
    return {
        "accuracy": hit / total if total else 0.0,
        "low": low,
        "high": high,
        "n": total,
        "right": np.packbits(hit_N).tobytes().hex(),
    }


def hits_of(share: Mapping[str, Any]) -> np.ndarray | None:
    """The 0 and 1 (N,) that a proportion counts, or None where it does not tell.

    >>> hits_of(proportion([True, False, True])).tolist()
    [1, 0, 1]
    """
    if "right" not in share:
        return None
    return np.unpackbits(np.frombuffer(bytes.fromhex(share["right"]), np.uint8), count=share["n"])
