"""The numbers of a result, each with its interval and beside the reference: what tables, figures and CSV files are made
of."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from seaanchor.evaluation.mean_iou import paired_difference_of_miou, unpacked
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.evaluation.statistics import PairedCounts, Share, paired_counts, paired_difference

Better = Literal["higher", "lower", ""]
Way = Literal["paired", "unpaired", ""]
"""How the interval of a change was found: image by image, from two intervals, or not at all."""

ATTACKS = {"autoattack": "AutoAttack", "apgd": "APGD", "apgd-ce": "APGD-CE", "pgd": "PGD", "square": "Square"}
"""Attacks from the strongest to the weakest, as they are written."""
CLEAN, TYPOGRAPHIC_IMAGES = "clean", "typographic images"
PLAIN = {CLEAN: "Clean images", TYPOGRAPHIC_IMAGES: "Images with their words, as they are"}
"""Accuracy on images as they are: the second where each carries a word already."""


@dataclass(frozen=True)
class Value:
    """A number, with its 95 % interval and the count it rests on where they are known, and with which images it counts
    where it may be compared image by image (see `Share.right`, and `SegmentationScore.counts` for mean IoU).

    Of a change, `way` says how its interval was found, and `pairs` counts the images that only one of the two models
    has.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    right: str | None = None
    counts: str | None = None
    way: Way = ""
    pairs: PairedCounts | None = None


@dataclass(frozen=True)
class Measure:
    """One number of a model on one data set.

    Attributes:
        suite: which part of the evaluation it comes from.
        group: heading in the table, with what the number depends on; rows of two models are compared where group and
            label agree.
        label: what it is.
        value: of the model.
        reference: of the untouched model, or None.
        better: which direction is a gain; empty if neither.
        percent: whether it is a share in [0, 1].
        attack, epsilon: of robust accuracies.
        fold: a detail, shown in a foldable part.
    """

    suite: str
    group: str
    label: str
    value: Value
    reference: Value | None = None
    better: Better = "higher"
    percent: bool = True
    attack: str = ""
    epsilon: float = 0.0
    fold: bool = False

    @property
    def key(self) -> tuple[str, str, str]:
        """What two models' measures must share to be compared."""
        return self.suite, self.group, self.label

    @property
    def change(self) -> Value | None:
        """Against the reference; with an interval where both are shares."""
        return difference(self.value, self.reference) if self.reference else None

    @property
    def verdict(self) -> Literal["gain", "loss", "unclear", ""]:
        """`gain` or `loss` where the interval of the change leaves out 0, `unclear` where it does not, empty where
        there is nothing to judge."""
        change = self.change
        if change is None or change.low is None or change.high is None or not self.better:
            return ""
        if change.low <= 0 <= change.high:
            return "unclear"
        return "gain" if (change.value > 0) == (self.better == "higher") else "loss"

    @property
    def turned(self) -> tuple[int, int] | None:
        """On how many images the model is better than the reference, and on how many worse; None where they are not
        compared image by image, or where neither direction is a gain."""
        pairs = self.change.pairs if self.change else None
        if pairs is None or not self.better:
            return None
        return (pairs.won, pairs.lost) if self.better == "higher" else (pairs.lost, pairs.won)


def difference(here: Value, there: Value) -> Value:
    """here − there with a 95 % interval: image by image where both values hold which images they count, else from the
    two Wilson intervals, as if the samples were independent.

    Source: `seaanchor.evaluation.statistics.paired_difference`; Newcombe 1998, Statistics in Medicine 17, method 10.
    """
    if here.counts and there.counts and here.n and here.n == there.n:
        one, other = (unpacked(v.counts or "", here.n) for v in (here, there))
        if one.shape == other.shape:
            return Value(*paired_difference_of_miou(one, other), here.n, way="paired")
    hits_a, hits_b = (Share(v.value, n=v.n, right=v.right).hits_N for v in (here, there))
    if hits_a is not None and hits_b is not None and 0 < len(hits_a) == len(hits_b):
        pairs = paired_counts(hits_a, hits_b)
        return Value(*paired_difference(hits_a, hits_b), here.n, way="paired", pairs=pairs)
    change = here.value - there.value
    if here.low is None or here.high is None or there.low is None or there.high is None:
        return Value(change)
    below = math.hypot(here.value - here.low, there.high - there.value)
    above = math.hypot(here.high - here.value, there.value - there.low)
    return Value(change, change - below, change + above, here.n, way="unpaired")


def radius(epsilon: float) -> str:
    """`2/255` where it is one, else the number."""
    parts = Fraction(epsilon * 255).limit_denominator(100)
    return f"{parts.numerator}/255" if parts.denominator == 1 else f"{epsilon:.4g}"


def ball_text(norm: str | None) -> str:
    """`ℓ∞` or `ℓ2`."""
    return "ℓ2" if norm == "l2" else "ℓ∞"


def value_of(share: Share) -> Value:
    """A share as a value."""
    return Value(share.accuracy, share.low, share.high, share.n, share.right)


def count(result: EvaluationResult) -> int | None:
    """How many images the accuracy on images as they are rests on, or the mean IoU; None without either."""
    found = result.suites.segmentation
    return result.plain.n if result.plain else None if found is None else found.clean.n


def same_images(one: EvaluationResult, other: EvaluationResult) -> bool:
    """Whether two results are known to be of the same list of images, so that they can be compared image by image."""
    return one.protocol.images is not None and one.protocol.images == other.protocol.images


def beside(found: list[Measure], reference: list[Measure], paired: bool) -> list[Measure]:
    """Measures with the reference's value of the same key; without its bits where the images may be others."""
    values = {m.key: m.value if paired else replace(m.value, right=None, counts=None) for m in reference}
    return [replace(m, reference=values[m.key]) if m.key in values else m for m in found]
