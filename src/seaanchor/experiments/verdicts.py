"""How far two arms are apart, with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, variance

from seaanchor.experiments.engine import Row

LOSS = 5.0  # percentage points: a claim of no loss must rule out one as large as this


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


@dataclass(frozen=True)
class Verdict:
    """A claim, what came of it, and the effects behind that."""

    claim: str
    outcome: str
    effect: str

    def line(self) -> str:
        """As a sentence of a section."""
        symbol = self.claim[1:2] == " "  # t is a number here and T another
        return f"**{self.claim if symbol else self.claim[0].upper() + self.claim[1:]}: {self.outcome}.** {self.effect}"


@dataclass(frozen=True)
class Effect:
    """A measured difference and the sign that the claim asks of it; 0 asks that nothing is lost, which is shown where the interval leaves out a loss
    of `LOSS` points."""

    name: str
    found: Difference
    wanted: int = 1

    @property
    def shown(self) -> bool:
        """Whether the interval lies where the claim says."""
        return self.found.low > -LOSS if self.wanted == 0 else self.found.sign == self.wanted


def judge(claim: str, effects: Sequence[Effect], note: str = "") -> Verdict:
    """A claim holds where every effect is shown, holds partly where some are, and otherwise does not hold at this scale; without an effect it is open,
    as where no point of one curve lies between two of the other."""
    if not effects:
        return Verdict(claim, "open", note or "nothing could be compared")
    shown = sum(effect.shown for effect in effects)
    outcome = "holds" if shown == len(effects) else "does not hold at this scale" if shown == 0 else "holds partly"
    listed = "; ".join(f"{effect.name} {effect.found}" for effect in effects)
    return Verdict(claim, outcome, f"{listed}{'; ' + note if note else ''}")


def above_curve(rows: Sequence[Row], arm: str, curve: Sequence[str], x: str, y: str, dataset: str, y_dataset: str = "") -> Difference | None:
    """How far an arm's y lies above a curve of other arms at the arm's own x, between the curve's two nearest points.

    Beyond the curve's largest x the arm is compared with the curve's end: it has more of x, and this much more of y. None short of the smallest x.

    Args:
        rows: of all of them.
        arm: the point.
        curve: arms in the order of the curve.
        x, y: measures, of shares.
        dataset: where both are measured, but for `y_dataset`, where y is.
    """
    where = y_dataset or dataset
    at = _spread(rows, arm, x, dataset)[0]
    ends = [(_spread(rows, name, x, dataset)[0], _spread(rows, name, y, where)) for name in curve]
    for (x0, (y0, v0)), (x1, (y1, v1)) in pairwise(ends):
        if min(x0, x1) <= at <= max(x0, x1) and x0 != x1:
            part = (at - x0) / (x1 - x0)
            own, own_variance = _spread(rows, arm, y, where)
            middle = 100 * (own - (y0 + part * (y1 - y0)))
            half = 100 * 1.96 * math.sqrt(own_variance + (1 - part) ** 2 * v0 + part**2 * v1)
            return Difference(middle, middle - half, middle + half)
    farthest = max(curve, key=lambda name: _spread(rows, name, x, dataset)[0])
    return difference(rows, arm, farthest, y, where) if at > _spread(rows, farthest, x, dataset)[0] else None
