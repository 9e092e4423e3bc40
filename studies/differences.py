"""How far two arms are apart, with an interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import mean, variance

import numpy as np
from scipy import stats

from seaanchor.evaluation.statistics import Share, paired_difference
from seaanchor.sweeps.engine import Row

WIDE = 10  # points of x between two points of a curve, over which a straight line is told


@dataclass(frozen=True)
class Difference:
    """A difference of two shares with its 95 % interval, in percentage points; `across`: from a curve that was read
    between two of its points, so many points of x apart."""

    mean: float
    low: float
    high: float
    across: float = 0.0

    @property
    def sign(self) -> int:
        """1 or −1 where the interval leaves 0 out, else 0."""
        return (self.low > 0) - (self.high < 0)

    def __str__(self) -> str:
        told = f"; read across {self.across:.0f} points" if self.across > WIDE else ""
        return f"{self.mean:+.1f} ({self.low:+.1f} to {self.high:+.1f}{told})"


@dataclass(frozen=True)
class _Term:
    """A share of an arm in a sum of several."""

    weight: float
    arm: str
    measure: str
    dataset: str


def difference(rows: Sequence[Row], one: str, other: str, measure: str, dataset: str) -> Difference:
    """Arm `one` less arm `other`, of a share on one data set.

    Two single models whose right images are known are compared as in reports: `paired_difference`. Of several seeds the
    variance is that of a mean over images, plus that of a mean over seeds, of which there are few: the interval is
    Student's. Images are paired where the rows say which are right, and independent samples where they do not.

    Raises:
        ValueError: an arm has no such number there.
    """
    terms = [_Term(1, one, measure, dataset), _Term(-1, other, measure, dataset)]
    pair = [share.hits_N for term in terms if len(found := _cells(rows, term)) == 1 for share in found.values()]
    if len(pair) == 2 and pair[0] is not None and pair[1] is not None and len(pair[0]) == len(pair[1]):
        return Difference(*(100 * end for end in paired_difference(pair[0], pair[1])))
    return _sum(rows, terms)


def _sum(rows: Sequence[Row], terms: Sequence[_Term]) -> Difference:
    """A weighted sum of shares: those of one data set share their images, all share their seeds."""
    cells = [_cells(rows, term) for term in terms]
    middle = sum(term.weight * _centre(found) for term, found in zip(terms, cells, strict=True))
    parts = _over_seeds(terms, cells)
    for dataset in {term.dataset for term in terms}:
        mine = [(term.weight, found) for term, found in zip(terms, cells, strict=True) if term.dataset == dataset]
        parts.append((_over_images([weight for weight, _ in mine], [found for _, found in mine]), math.inf))
    half = 100 * _half_width(parts)
    return Difference(100 * middle, 100 * middle - half, 100 * middle + half)


def _half_width(parts: Sequence[tuple[float, float]]) -> float:
    """Half of the 95 % interval of a sum whose parts have these variances, each known from so many degrees of freedom
    (Welch and Satterthwaite)."""
    total = sum(part for part, _ in parts)
    loose = sum(part**2 / freedom for part, freedom in parts)
    return float(stats.t.ppf(0.975, total**2 / loose if loose else math.inf)) * math.sqrt(total)


_Cells = dict[int, Share]  # by seed


def _cells(rows: Sequence[Row], term: _Term) -> _Cells:
    """A share at every seed; a mean that does not say on how many images it stands has those of the clean accuracy."""
    found = {
        row.seed: _counted(row.numbers[term.measure], row.numbers.get("clean"))
        for row in rows
        if row.arm == term.arm and row.dataset == term.dataset and term.measure in row.numbers
    }
    if not found:
        raise ValueError(f"no {term.measure} of {term.arm} on {term.dataset}")
    return found


def _counted(share: Share, clean: Share | None) -> Share:
    return share if share.n is not None or clean is None else replace(share, n=clean.n)


def _centre(cells: _Cells) -> float:
    return mean(cell.accuracy for cell in cells.values())


def _over_images(weights: Sequence[float], cells: Sequence[_Cells]) -> float:
    """Variance of the sum because there are n images: of its value on an image where every share tells its images, else
    of independent samples."""
    known = [_hits(found) for found in cells]
    if len({None if hit_N is None else len(hit_N) for hit_N in known}) == 1 and known[0] is not None:
        value_N = np.dot(weights, np.stack(known))  # type: ignore[arg-type] # one length: none is None
        return float(np.var(value_N, ddof=1) / len(value_N))
    centres = [(_centre(found), next(iter(found.values())).n) for found in cells]
    if any(n is None for _, n in centres):
        raise ValueError("a number without its images has no interval")
    return sum(weight**2 * p * (1 - p) / n for weight, (p, n) in zip(weights, centres, strict=True) if n)


def _hits(cells: _Cells) -> np.ndarray | None:
    """Mean over seeds of 0 or 1 for each image (N,), or None where a share does not tell, or seeds saw other numbers of
    images."""
    found = [hit_N for cell in cells.values() if (hit_N := cell.hits_N) is not None]
    return np.mean(found, axis=0) if len(found) == len(cells) and len({len(hit_N) for hit_N in found}) == 1 else None


def _over_seeds(terms: Sequence[_Term], cells: Sequence[_Cells]) -> list[tuple[float, float]]:
    """Variances of the sum because there are few seeds, with degrees of freedom: of its value at a seed where all arms
    with several have the same."""
    several = [(term.weight, found) for term, found in zip(terms, cells, strict=True) if len(found) > 1]
    if len({tuple(sorted(found)) for _, found in several}) == 1:
        seeds = several[0][1]
        return [
            (
                variance(sum(weight * found[seed].accuracy for weight, found in several) for seed in seeds)
                / len(seeds),
                len(seeds) - 1,
            )
        ]
    return [
        (weight**2 * variance(cell.accuracy for cell in found.values()) / len(found), len(found) - 1)
        for weight, found in several
    ]


def mean_of(rows: Sequence[Row], arm: str, measure: str, dataset: str) -> float:
    """A share of an arm on one data set, mean over seeds.

    Raises:
        ValueError: the arm has no such number there.
    """
    return _centre(_cells(rows, _Term(1, arm, measure, dataset)))


def above_curve(
    rows: Sequence[Row], arm: str, curve: Sequence[str], x: str, y: str, dataset: str, y_dataset: str = ""
) -> Difference | None:
    """How far an arm's y lies above a curve of other arms at the arm's own x, between the curve's two nearest points;
    its interval holds the error of both axes, to first order. A front bulges, so between points that are far apart a
    straight line lies below it: the difference knows how far.

    Beyond the curve's largest x the arm is compared with the curve's end: it has more of x, and this much more of y.
    Short of the smallest x it is, too, where
    it has less of y as well: the curve lies above it by no less. Otherwise None: what a curve would have there is not
    known.

    Args:
        rows: of all of them.
        arm: the point.
        curve: arms in the order of the curve.
        x, y: measures, of shares.
        dataset: where both are measured, but for `y_dataset`, where y is.
    """
    where = y_dataset or dataset
    own = mean_of(rows, arm, x, dataset)
    for one, other in pairwise(curve):
        x0, x1 = mean_of(rows, one, x, dataset), mean_of(rows, other, x, dataset)
        if min(x0, x1) <= own <= max(x0, x1) and x0 != x1:
            part = (own - x0) / (x1 - x0)
            weights = ((arm, 1.0), (one, part - 1), (other, -part))
            slope = (mean_of(rows, other, y, where) - mean_of(rows, one, y, where)) / (x1 - x0)
            heights = [_Term(weight, name, y, where) for name, weight in weights]
            shifts = [
                _Term(-slope * weight, name, x, dataset) for name, weight in weights
            ]  # adds up to 0: the curve is read at the arm's x
            return replace(_sum(rows, [*heights, *shifts]), across=100 * abs(x1 - x0) if 0 < part < 1 else 0.0)
    nearest, farthest = (pick(curve, key=lambda name: mean_of(rows, name, x, dataset)) for pick in (min, max))
    if own > mean_of(rows, farthest, x, dataset):
        return difference(rows, arm, farthest, y, where)
    below = difference(rows, arm, nearest, y, where)
    return below if below.mean <= 0 else None
