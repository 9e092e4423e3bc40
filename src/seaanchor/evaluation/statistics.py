"""Shares of images with their uncertainty, and the difference of two shares of the same images.

Legend: N images.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEVEL = 0.05
Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
HALVINGS = 60  # of the interval in which an end is searched; 2⁻⁶⁰ is below the rounding of a float
Hits = Sequence[bool] | np.ndarray | Tensor


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

    def __post_init__(self) -> None:
        """The bits are as many as the images.

        Raises:
            ValueError: they are not, or are no hexadecimal digits; or the number of images is negative.
        """
        if self.n is not None and self.n < 0:
            raise ValueError(f"a share of {self.n} images")
        if self.right is not None and self.n is not None and len(bytes.fromhex(self.right)) != -(-self.n // 8):
            raise ValueError(f"{4 * len(self.right)} bits for {self.n} images")

    @property
    def hits_N(self) -> np.ndarray | None:
        """The 0 and 1 (N,) that are counted, or None where that is not known.

        >>> share_of([True, False, True]).hits_N.tolist()
        [1, 0, 1]
        """
        if self.right is None or self.n is None:
            return None
        return np.unpackbits(np.frombuffer(bytes.fromhex(self.right), np.uint8), count=self.n)


@dataclass(frozen=True)
class Spread:
    """Mean, median, ninth decile and largest of a number per image."""

    mean: float
    p50: float
    p90: float
    max: float


def share_of(hits: Tensor | Sequence[bool] | np.ndarray) -> Share:
    """The share of true values (N,).

    >>> share_of([True, False, True]).right
    'a0'
    """
    hit_N = np.asarray(hits.cpu() if isinstance(hits, Tensor) else hits, dtype=bool)
    hit, total = int(hit_N.sum()), len(hit_N)
    low, high = interval(hit, total)
    return Share(hit / total if total else 0.0, low, high, total, np.packbits(hit_N).tobytes().hex())


def spread_of(values_N: Tensor) -> Spread:
    """Mean, median, ninth decile and largest value."""
    middle, high = values_N.double().quantile(torch.tensor([0.5, 0.9], dtype=torch.float64)).tolist()
    return Spread(values_N.double().mean().item(), middle, high, values_N.max().item())


@dataclass(frozen=True)
class PairedCounts:
    """How many of n images the first model alone is right on, and how many the second alone."""

    won: int
    lost: int
    n: int


def paired_counts(hits_a: Hits, hits_b: Hits) -> PairedCounts:
    """Count the images on which two models differ.

    Args:
        hits_a, hits_b: whether each model is right on each of the same N images.

    Raises:
        ValueError: no image, or two numbers of images.
    """
    a_N, b_N = (np.asarray(hits, dtype=bool) for hits in (hits_a, hits_b))
    if a_N.shape != b_N.shape or a_N.size == 0:
        raise ValueError(f"{a_N.size} and {b_N.size} images; expected the same images, at least one")
    return PairedCounts(int((a_N & ~b_N).sum()), int((b_N & ~a_N).sum()), a_N.size)


def paired_difference(hits_a: Hits, hits_b: Hits) -> tuple[float, float, float]:
    """Share of A less share of B, with a 95 % interval that leaves 0 out exactly where McNemar's exact test rejects.

    The ends are those of Tango's score interval. Where the exact test does not reject, the interval is extended to 0:
    with few differing images the score interval alone would find too much.

    Args:
        hits_a, hits_b: whether each model is right on each of the same N images.

    Returns:
        The difference and both ends, in [−1, 1].

    Raises:
        ValueError: no image, or two numbers of images.

    Source: Tango 1998, Statistics in Medicine 17, 891-908; McNemar 1947 with binomial probabilities.

    >>> worse, same = [False] * 7 + [True] * 193, [True] * 200
    >>> [round(100 * end, 1) for end in paired_difference(worse, same)]  # 0 won, 7 lost
    [-3.5, -7.0, -1.5]
    """
    counts = paired_counts(hits_a, hits_b)
    low, high = tango_interval(counts)
    if mcnemar_exact(counts) >= LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return (counts.won - counts.lost) / counts.n, low, high


def mcnemar_exact(counts: PairedCounts) -> float:
    """Two-sided p-value that both models are as good: of the images on which they differ, each wins half.

    >>> round(mcnemar_exact(PairedCounts(0, 7, 200)), 4)
    0.0156
    """
    differing = counts.won + counts.lost

    def log_probability(wins: int) -> float:
        ways = math.lgamma(differing + 1) - math.lgamma(wins + 1) - math.lgamma(differing - wins + 1)
        return ways - differing * math.log(2)

    tail = math.fsum(math.exp(log_probability(wins)) for wins in range(min(counts.won, counts.lost) + 1))
    return min(1.0, 2 * tail)


def tango_interval(counts: PairedCounts) -> tuple[float, float]:
    """95 % score interval of the difference: all values that the score test does not reject."""
    middle = (counts.won - counts.lost) / counts.n
    low = _crossing(lambda difference: _score(counts, difference) - Z, -1.0, middle)
    high = _crossing(lambda difference: _score(counts, difference) + Z, middle, 1.0)
    return low, high


def _score(counts: PairedCounts, difference: float) -> float:
    """Tango's statistic (eq. 2.4): the observed difference less a supposed one, over its standard error with the share
    of lost images estimated under that supposition; it falls as the supposed difference grows."""
    won, lost, n = counts.won, counts.lost, counts.n
    linear = (2 * n - won + lost) * difference - won - lost
    constant = -lost * difference * (1 - difference)
    lost_share = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * lost_share + difference * (1 - difference))
    gap = won - lost - n * difference
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0


def _crossing(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses 0 between two values; the nearer end where it does not."""
    if falling(low) <= 0:
        return low
    if falling(high) >= 0:
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
