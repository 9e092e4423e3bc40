"""Changes of accuracies that are compared image by image, against scipy's tests of the same counts."""

from dataclasses import replace

import numpy as np
import pytest

from seaanchor.evaluation.result_files import decode
from seaanchor.evaluation.statistics import interval
from seaanchor.report.measures import Measure, Value, difference
from seaanchor.report.readers import measures

optimize, stats = pytest.importorskip("scipy.optimize"), pytest.importorskip("scipy.stats")


def bits(hit_N: np.ndarray) -> dict:
    """A proportion as a result file of today holds it, with which images it counts."""
    low, high = interval(int(hit_N.sum()), len(hit_N))
    right = np.packbits(hit_N).tobytes().hex()
    return {"accuracy": float(hit_N.mean()), "low": low, "high": high, "n": len(hit_N), "right": right}


def compared(won: int, lost: int, n: int, images: tuple[str | None, str | None] = ("a", "a")) -> Measure:
    """Clean accuracy, as read from a file, of a model that alone is right on `won` images and alone wrong on `lost`."""
    here_N, there_N = np.ones(n, bool), np.ones(n, bool)
    there_N[:won], here_N[won : won + lost] = False, False
    model, reference = (
        {"format": 4, "dataset": "d", "model": "m", "clean": bits(hit_N), "protocol": {"images": of}}
        for hit_N, of in zip((here_N, there_N), images, strict=True)
    )
    return next(m for m in measures(decode(model | {"reference": reference})) if m.key[0] == "clean")


def score(won: int, lost: int, n: int, difference: float) -> float:
    """The score statistic of a supposed difference, by a search for the likeliest share of lost images."""

    def minus_log_likelihood(share: float) -> float:
        shares = (share + difference, share, 1 - 2 * share - difference)
        counts = zip((won, lost, n - won - lost), shares, strict=True)
        return -sum(count * np.log(s) for count, s in counts if count)

    edge = 1e-12
    bounds = (max(0.0, -difference) + edge, (1 - difference) / 2 - edge)
    best = optimize.minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (won - lost - n * difference) / np.sqrt(n * (2 * best + difference * (1 - difference)))


def test_nothing_won_and_seven_lost_of_two_hundred_is_red_and_not_grey():
    measure = compared(0, 7, 200)
    assert stats.binomtest(0, 7).pvalue == pytest.approx(0.015625)
    assert (measure.verdict, measure.change.way, measure.turned) == ("loss", "paired", (0, 7))
    apart = difference(*(replace(v, right=None) for v in (measure.value, measure.reference)))
    assert apart.way == "unpaired"
    assert compared(0, 5, 200).verdict == "unclear"  # p = 0.0625


@pytest.mark.parametrize(("won", "lost", "n"), [(0, 7, 200), (16, 5, 200), (3, 12, 90), (40, 60, 1000)])
def test_ends_of_a_paired_change_are_where_the_score_test_rejects(won, lost, n):
    change, z = compared(won, lost, n).change, stats.norm.ppf(0.975)
    middle = (won - lost) / n
    ends = [
        optimize.brentq(lambda d, side=side: score(won, lost, n, d) - side * z, *sorted((middle, far)))
        for side, far in ((1, middle - 0.3), (-1, middle + 0.3))
    ]
    assert change.value == pytest.approx(middle)
    if stats.binomtest(won, won + lost).pvalue >= 0.05:
        ends = [min(ends[0], 0.0), max(ends[1], 0.0)]
    assert (change.low, change.high) == pytest.approx(ends, abs=1e-6)


@pytest.mark.parametrize("images", [("a", "b"), (None, None), ("a", None)])
def test_other_images_are_not_paired_and_say_so(images):
    measure = compared(0, 7, 200, images)
    assert (measure.change.way, measure.change.pairs, measure.turned) == ("unpaired", None, None)


def test_better_and_worse_follow_the_direction_that_is_a_gain():
    measure = compared(2, 9, 100)
    assert measure.turned == (2, 9)
    assert replace(measure, better="lower").turned == (9, 2)
    assert replace(measure, better="").turned is None


def test_a_number_that_counts_no_images_has_no_way():
    assert difference(Value(0.5), Value(0.4)).way == ""
