"""Proportions with their uncertainty, and which images they count."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Share:
    """A share of images with its 95 % interval.

    Attributes:
        accuracy: the share, in [0, 1].
        low, high: ends of its Wilson interval; None where a file does not hold them.
        n: images it rests on.
        right: which of them it counts: one bit an image, in order, packed into hexadecimal digits (the first image is
            the highest bit of the first byte), so that two models can be compared image by image.
    """

    accuracy: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    right: str | None = None

    @property
    def hits_N(self) -> np.ndarray | None:
        """The 0 and 1 (N,) that are counted, or None where that is not known.

        >>> share_of([True, False, True]).hits_N.tolist()
        [1, 0, 1]
        """
        if self.right is None or self.n is None:
            return None
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.right), np.uint8), count=self.n)


def share_of(hits: Tensor | Sequence[bool] | np.ndarray) -> Share:
    """The share of true values (N,).

    >>> share_of([True, False, True]).right
    'a0'
    """
    hit_N = np.asarray(hits.cpu() if isinstance(hits, Tensor) else hits, dtype=bool)
    hit, total = int(hit_N.sum()), len(hit_N)
    low, high = interval(hit, total)
    return Share(hit / total if total else 0.0, low, high, total, np.packbits(hit_N).tobytes().hex())


def proportion(hits: Tensor | Sequence[bool]) -> dict[str, Any]:
    """`share_of` as plain data.

    >>> proportion([True, False, True])["right"]
    'a0'
    """
    return asdict(share_of(hits))


def hits_of(share: Mapping[str, Any]) -> np.ndarray | None:
    """The 0 and 1 (N,) that a share in plain data counts, or None where it does not say.

    >>> hits_of(proportion([True, False, True])).tolist()
    [1, 0, 1]
    """
    return Share(share["accuracy"], n=share["n"], right=share["right"]).hits_N if "right" in share else None
