"""The paired difference: against other ways to compute it, and its coverage."""

from dataclasses import astuple, replace

import numpy as np
import pytest
import torch

from seaanchor.evaluation.statistics import (
    PairedCounts,
    Z,
    interval,
    mcnemar_exact,
    paired_counts,
    paired_difference,
    share_of,
    spread_of,
    tango_interval,
)

RNG = np.random.default_rng(0)


def hits(won: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Bits of two models of which the first alone is right on `won` images, and the second alone on `lost`."""
    a_N, b_N = np.ones(n, bool), np.ones(n, bool)
    b_N[:won], a_N[won : won + lost] = False, False
    return a_N, b_N


def test_nothing_won_and_seven_lost_of_two_hundred_is_a_loss():
    difference, low, high = paired_difference(*hits(0, 7, 200))
    assert difference == pytest.approx(-0.035)
    assert low < difference < high < 0
    assert mcnemar_exact(PairedCounts(0, 7, 200)) == pytest.approx(2 / 2**7)


@pytest.mark.parametrize(
    ("won", "lost", "n"), [(0, 5, 50), (3, 3, 20), (10, 30, 100), (0, 0, 10), (1, 0, 1), (450, 520, 5000)]
)
def test_mcnemar_against_scipy(won, lost, n):
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar_exact(PairedCounts(won, lost, n)) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("won", "lost", "n"), [(1, 7, 21), (0, 7, 200), (30, 10, 200), (9, 8, 40)])
def test_the_score_interval_inverts_the_score_test(won, lost, n):
    """An oracle that knows no closed form: the constrained maximum of the likelihood is searched on a grid."""

    def statistic(difference: float) -> float:
        share = np.linspace(max(0.0, -difference), (1 - difference) / 2, 400_001)[1:-1]  # of lost images
        log_likelihood = (
            won * np.log(share + difference)
            + lost * np.log(share)
            + (n - won - lost) * np.log1p(-2 * share - difference)
        )
        best = share[np.argmax(log_likelihood)]
        return (won - lost - n * difference) / np.sqrt(n * (2 * best + difference * (1 - difference)))

    low, high = tango_interval(PairedCounts(won, lost, n))
    assert statistic(low) == pytest.approx(1.96, abs=2e-3)
    assert statistic(high) == pytest.approx(-1.96, abs=2e-3)


def test_the_interval_leaves_zero_out_exactly_where_the_exact_test_rejects():
    for won in range(12):
        for lost in range(12):
            _, low, high = paired_difference(*hits(won, lost, 60))
            assert (low > 0 or high < 0) == (mcnemar_exact(PairedCounts(won, lost, 60)) < 0.05), (won, lost)


def test_turning_the_models_round_turns_the_sign():
    forth, back = paired_difference(*hits(12, 3, 90)), paired_difference(*hits(3, 12, 90))
    assert forth == pytest.approx((-back[0], -back[2], -back[1]), abs=1e-9)


@pytest.mark.parametrize(
    ("won", "lost", "n"), [(0.03, 0.03, 200), (0.0, 0.05, 200), (0.2, 0.1, 60), (0.01, 0.06, 100), (0.3, 0.3, 30)]
)
def test_coverage_by_simulation(won, lost, n):
    """Of 2,000 drawings, the interval holds the true difference in 95 % and, for safety against chance, 93.5 %."""
    counts = RNG.multinomial(n, [won, lost, 1 - won - lost], size=2000)
    intervals = {}
    for w, x, _ in map(tuple, counts):
        if (w, x) not in intervals:
            intervals[w, x] = paired_difference(*hits(w, x, n))
    inside = [intervals[w, x][1] <= won - lost <= intervals[w, x][2] for w, x, _ in map(tuple, counts)]
    assert np.mean(inside) >= 0.935


def test_pairs_are_of_the_same_images():
    assert paired_counts([True, False, True], [True, True, False]) == PairedCounts(1, 1, 3)
    with pytest.raises(ValueError, match="2 and 3 images"):
        paired_counts([True, False], [True, True, False])
    with pytest.raises(ValueError, match="at least one"):
        paired_difference([], [])


@pytest.mark.parametrize(("correct", "total"), [(0, 7), (1, 10), (10, 20), (149, 200), (200, 200)])
def test_wilsons_interval_against_scipy(correct, total):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(correct, total).proportion_ci(method="wilson")
    assert interval(correct, total, z=Z) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_share_of_no_images_is_none_of_them():
    assert interval(0, 0) == (0.0, 1.0)
    nothing = share_of([])
    assert (nothing.accuracy, nothing.low, nothing.high, nothing.n) == (0.0, 0.0, 1.0, 0)


def test_the_spread_of_numbers_by_hand():
    found = spread_of(torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 19.0, 11.0]))
    assert astuple(found) == pytest.approx((6.0, 5.0, 11.0, 19.0))


def test_which_images_a_share_counts_comes_back():
    bits = [True, False, True, True, False, False, True, False, True]
    assert share_of(bits).hits_N.tolist() == [int(bit) for bit in bits]
    assert replace(share_of(bits), right=None).hits_N is None and replace(share_of(bits), n=None).hits_N is None
