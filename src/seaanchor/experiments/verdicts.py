"""How far two arms are apart, with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, variance

from seaanchor.experiments.engine import Row


@dataclass(frozen=True)
class Difference:
    """A difference of two shares with its 95 % interval, in percentage points."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or −1 where the interval leaves 0 out, else 0."""
        return (self.low > 0) - (self.high < 0)

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f})"


def difference(rows: Sequence[Row], one: str, other: str, measure: str, dataset: str) -> Difference:
    """Arm `one` less arm `other`, of a share on one data set.

    The variance is that of a mean over seeds, plus that of a share of n images, for each of the two. Both arms see the same images,
    so that the interval is wider than one from paired images would be.

    Raises:
        ValueError: an arm has no such number there.
    """
    first, second = (_spread(rows, arm, measure, dataset) for arm in (one, other))
    middle, half = 100 * (first[0] - second[0]), 100 * 1.96 * math.sqrt(first[1] + second[1])
    return Difference(middle, middle - half, middle + half)


def _spread(rows: Sequence[Row], arm: str, measure: str, dataset: str) -> tuple[float, float]:
    found = [row.numbers[measure] for row in rows if row.arm == arm and row.dataset == dataset and measure in row.numbers]
    if not found:
        raise ValueError(f"no {measure} of {arm} on {dataset}")
    shares = [cell["accuracy"] for cell in found]
    centre = mean(shares)
    return centre, centre * (1 - centre) / found[0]["n"] + (variance(shares) / len(shares) if len(shares) > 1 else 0.0)
