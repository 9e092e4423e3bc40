"""Differences with their intervals against hand computation, and what a verdict makes of them."""

import json
import math
import random
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from seaanchor.config.schema import RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.statistics import Share, Z, paired_difference, share_of
from seaanchor.sweeps.engine import Row
from studies.claims import verdict_of
from studies.declare import Claim, Contrast, Section, Study
from studies.differences import Difference, _half_width, above_curve, difference
from studies.registry import ORDER, STUDIES, run
from studies.sections import put_between, summary, write_section
from studies.verdicts import Effect, judge
from studies.workspace import Workspace


def row(arm: str, seed: int, **shares: float) -> Row:
    return Row(arm, seed, "photos", {name: Share(share, n=400) for name, share in shares.items()}, {})


def test_a_difference_by_hand():
    """Seeds 0.5 and 0.6 (variance 0.005) against 0.4: binomial variances 0.55·0.45/400 and 0.4·0.6/400."""
    found = difference(
        [row("a", 0, clean=0.5), row("a", 1, clean=0.6), row("b", 0, clean=0.4)], "a", "b", "clean", "photos"
    )
    seeds, total = 0.005 / 2, 0.55 * 0.45 / 400 + 0.005 / 2 + 0.4 * 0.6 / 400
    half = student(total**2 / seeds**2) * math.sqrt(total)
    assert (
        found.mean == pytest.approx(15)
        and found.high - found.mean == pytest.approx(100 * half)
        and found.low == pytest.approx(15 - 100 * half)
    )


def student(freedom: float) -> float:
    """97.5 % of Student's t, read off a half-width whose variance is 1."""
    found = _half_width([(1.0, freedom)])
    assert found == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)
    return found


@pytest.mark.parametrize(("freedom", "printed"), [(1, 12.706), (2, 4.303), (5, 2.571), (20, 2.086), (math.inf, 1.960)])
def test_few_seeds_widen_an_interval(freedom, printed):
    """Quantiles as tables print them."""
    assert student(freedom) == pytest.approx(printed, abs=5e-4)


def test_a_fractional_freedom_lies_between_its_neighbours():
    assert student(3) < student(2.5) < student(2)


def test_two_single_models_are_compared_as_in_a_report():
    hits = [np.array([1, 1, 1, 0, 1, 0, 1, 0, 1, 1]) > 0, np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 1]) > 0]
    found = difference([seen("a", 0, clean=hits[0]), seen("b", -1, clean=hits[1])], "a", "b", "clean", "photos")
    assert (found.mean, found.low, found.high) == pytest.approx([100 * end for end in paired_difference(*hits)])
    several = [seen("a", 0, clean=hits[0]), seen("a", 1, clean=hits[0]), seen("b", -1, clean=hits[1])]
    assert difference(several, "a", "b", "clean", "photos").low != found.low, "of several seeds Student's interval"


def test_a_number_without_its_images_has_no_interval():
    rows = [Row(arm, 0, "photos", {"cosine": Share(0.5)}, {}) for arm in ("a", "b")]
    with pytest.raises(ValueError, match="without its images"):
        difference(rows, "a", "b", "cosine", "photos")
    rows = [Row(arm, 0, "photos", {"mean": Share(0.5), "clean": Share(0.5, n=100)}, {}) for arm in ("a", "b")]
    assert difference(rows, "a", "b", "mean", "photos").high == pytest.approx(100 * Z * math.sqrt(0.5 / 100))


def test_three_seeds_that_differ_are_covered():
    """Training moves a share by 3 points (standard deviation), images hardly: 1.96 standard errors would cover the
    truth four times in five."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(500):
        rows = [
            Row(arm, seed, "", {"y": Share(p + 0.03 * rng.normal(), n=10**6)}, {})
            for arm, p in (("a", 0.5), ("b", 0.4))
            for seed in range(3)
        ]
        found = difference(rows, "a", "b", "y", "")
        covered += found.low <= 10 <= found.high
    assert 460 <= covered <= 489


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Two arms of three seeds, 400 images each time, true difference 5 points."""
    rng, covered = random.Random(0), 0

    def share(p: float) -> float:
        return sum(rng.random() < p for _ in range(400)) / 400

    for _ in range(300):
        rows = [row(arm, seed, clean=share(p)) for arm, p in (("a", 0.45), ("b", 0.4)) for seed in range(3)]
        found = difference(rows, "a", "b", "clean", "photos")
        covered += found.low <= 5 <= found.high
    assert covered >= 285, "images differ from seed to seed here, so that the interval is wide"


def seen(arm: str, seed: int, dataset: str = "photos", **hits: np.ndarray) -> Row:
    return Row(arm, seed, dataset, {name: share_of(torch.from_numpy(hit_N)) for name, hit_N in hits.items()}, {})


def test_a_difference_in_pairs_by_hand():
    """Eight images, two seeds: differences of the mean verdicts are 1, 0.5, 0, 0, 0, 0, 0, -0.5; the two seeds differ
    by 0.25 and 0."""
    one = [np.array([1, 1, 0, 1, 1, 0, 0, 0]) > 0, np.array([1, 0, 0, 1, 1, 0, 0, 0]) > 0]
    other = [np.array([0, 0, 0, 1, 1, 0, 0, 0]) > 0, np.array([0, 0, 0, 1, 1, 0, 0, 1]) > 0]
    rows = [seen(arm, seed, clean=hit_N) for arm, hits in (("a", one), ("b", other)) for seed, hit_N in enumerate(hits)]
    found = difference(rows, "a", "b", "clean", "photos")
    over_images = statistics.variance([1, 0.5, 0, 0, 0, 0, 0, -0.5]) / 8
    over_seeds = statistics.variance([0.25, 0.0]) / 2
    half = student((over_images + over_seeds) ** 2 / over_seeds**2) * math.sqrt(over_images + over_seeds)
    assert found.mean == pytest.approx(12.5) and found.high - found.mean == pytest.approx(100 * half)
    mixed = [*rows[:2], row("b", 0, clean=0.25), row("b", 1, clean=0.375)]
    assert difference(mixed, "a", "b", "clean", "photos").high > found.high, (
        "without the images of one arm, samples are independent"
    )


def test_images_in_pairs_tell_more_and_not_too_much():
    """Arms agree on four images of five, true difference 4 points: intervals are narrower than independent ones and
    cover it 95 times in 100."""
    rng, covered, narrower = np.random.default_rng(0), 0, []
    for _ in range(400):
        kind_N = rng.choice(4, size=400, p=(0.5, 0.3, 0.12, 0.08))  # both right, both wrong, only a, only b
        pair = [seen("a", 0, clean=(kind_N == 0) | (kind_N == 2)), seen("b", 0, clean=(kind_N == 0) | (kind_N == 3))]
        found = difference(pair, "a", "b", "clean", "photos")
        covered += found.low <= 4 <= found.high
        apart = difference(
            [row(r.arm, 0, clean=r.numbers["clean"].accuracy) for r in pair], "a", "b", "clean", "photos"
        )
        narrower.append((found.high - found.low) / (apart.high - apart.low))
    assert 370 <= covered <= 392 and statistics.mean(narrower) < 0.7


def test_a_gap_to_a_curve_holds_the_error_of_both_axes():
    """A curve from (0.2, 0.8) to (0.4, 0.4) and a point on it, all of images drawn at random: 0 is covered 95 times in
    100."""
    rng, covered, flat = np.random.default_rng(0), 0, 0
    for _ in range(400):
        rows = [
            seen(arm, 0, x=rng.random(400) < x, y=rng.random(400) < y)
            for arm, x, y in (("one", 0.2, 0.8), ("two", 0.4, 0.4), ("me", 0.3, 0.6))
        ]
        found = above_curve(rows, "me", ["one", "two"], "x", "y", "photos")
        if found:
            covered, flat = covered + (found.low <= 0 <= found.high), flat + 1
    assert flat > 390 and 0.92 * flat <= covered <= 0.98 * flat


def test_above_a_curve_by_hand():
    """Between (x 0.2, y 0.6) and (x 0.4, y 0.5), at x = 0.3, the curve has y = 0.55."""
    rows = [
        row("one", 0, x=0.2, y=0.6),
        row("two", 0, x=0.4, y=0.5),
        row("me", 0, x=0.3, y=0.7),
        row("out", 0, x=0.5, y=0.7),
    ]
    found = above_curve(rows, "me", ["one", "two"], "x", "y", "photos")
    assert found.mean == pytest.approx(15)
    assert str(found).endswith("; read across 20 points)"), "a front that bulges would lie above the line"
    near = [*rows, row("between", 0, x=0.35, y=0.54), row("close", 0, x=0.38, y=0.5)]
    assert "across" not in str(above_curve(near, "between", ["me", "close"], "x", "y", "photos")), "points 8 apart"
    assert "across" not in str(above_curve(rows, "two", ["one", "two"], "x", "y", "photos")), "a point of the curve"
    heights = 0.7 * 0.3 + 0.25 * 0.6 * 0.4 + 0.25 * 0.5 * 0.5
    shifts = 0.5**2 * (0.3 * 0.7 + 0.25 * 0.2 * 0.8 + 0.25 * 0.4 * 0.6)  # the curve falls by half a point a point
    half = Z * math.sqrt((heights + shifts) / 400)
    assert found.high - found.mean == pytest.approx(100 * half)
    beyond = above_curve(rows, "out", ["one", "two"], "x", "y", "photos")
    assert beyond == difference(rows, "out", "two", "y", "photos") and beyond.mean == pytest.approx(20), (
        "more of x than the end, which stands for the curve"
    )
    assert above_curve(rows, "one", ["me", "two"], "x", "y", "photos") == difference(
        rows, "one", "me", "y", "photos"
    ), "less of both: below at least so much"
    assert above_curve(rows, "one", ["two", "me"], "x", "y", "photos").mean == pytest.approx(-10), (
        "the end nearest in x, though not the first"
    )
    assert above_curve([*rows, row("high", 0, x=0.1, y=0.9)], "high", ["one", "two"], "x", "y", "photos") is None
    assert above_curve(rows, "two", ["one", "two"], "x", "y", "photos").mean == pytest.approx(0), (
        "a point of the curve lies on it"
    )


def test_of_little_a_loss_of_half_is_one(tmp_path):
    """2 in place of 4 %: the interval leaves out a loss of 5 points, as there are 4, and not of 2, half of it."""
    rows = [row("me", 0, robust=0.02, clean=0.46), row("other", 0, robust=0.04, clean=0.47)]
    measures = {"robust": "-2.0 (-4.4 to +0.4)", "clean": "-1.0 (-7.9 to +5.9)"}
    for measure, told in measures.items():
        claim = Claim("keeps", (Contrast("e", "me", "other", measure, "photos", wanted=0),))
        found = verdict_of(claim, rows, Workspace(tmp_path))
        assert found.effect == f"e {told}" and found.outcome == "undecided"
    many = [row("me", 0, robust=0.4), row("other", 0, robust=0.36)]
    claim = Claim("keeps", (Contrast("e", "me", "other", "robust", "photos", wanted=0),))
    assert verdict_of(claim, many, Workspace(tmp_path)).outcome == "holds", "of much, five points are the measure"


CASES = [
    (1, 3, 1, True),
    (-1, 3, 1, False),
    (-3, -1, 1, False),
    (-3, -1, -1, True),
    (-4.9, -1, 0, True),
    (-5.1, 3, 0, False),
    (1, 3, 0, True),
]


@pytest.mark.parametrize(("low", "high", "wanted", "shown"), CASES)
def test_an_effect_is_shown_where_its_interval_says_so(low, high, wanted, shown):
    assert Effect("e", Difference((low + high) / 2, low, high), wanted).shown is shown


def test_verdicts():
    yes, no, wide, none = (
        Effect(name, found)
        for name, found in (
            ("yes", Difference(2, 1, 3)),
            ("no", Difference(0, -1, 1)),
            ("wide", Difference(2, -2, 6)),
            ("none", None),
        )
    )
    outcomes = {
        ("yes", "yes"): "holds",
        ("yes", "no"): "holds partly",
        ("yes", "wide"): "holds partly",
        ("no", "wide"): "does not hold at this scale",
    }
    outcomes |= {("wide",): "undecided", ("none",): "open", ("yes", "none"): "holds"}
    kept = Effect("kept", Difference(-1, -2, 0.5), 0)
    outcomes |= {
        ("kept",): "holds",
        ("yes", "kept"): "holds",
        ("no", "kept"): "does not hold at this scale",
        ("wide", "kept"): "undecided",
    }
    effects = {effect.name: effect for effect in (yes, no, wide, none, kept)}
    assert {names: judge("c", [effects[name] for name in names]).outcome for names in outcomes} == outcomes
    assert (
        judge("c", [yes, no, wide, none]).effect
        == "yes +2.0 (+1.0 to +3.0) ✓; no +0.0 (-1.0 to +1.0) ✗; wide +2.0 (-2.0 to +6.0); not comparable: none"
    )
    assert judge("t = 1 turns", [yes]).line().startswith("**t = 1 turns: holds.**") and judge(
        "a b", [yes]
    ).line().startswith("**A b: holds.**")
    assert judge("c", []).outcome == "open", "no effect shows nothing"


REFUTED = [
    (-3, -1, 1, True),
    (-3, 4.9, 1, True),
    (-3, 5.1, 1, False),
    (1, 3, -1, True),
    (-5.1, 3, -1, False),
    (-9, -5.5, 0, True),
    (-9, 1, 0, False),
]


@pytest.mark.parametrize(("low", "high", "wanted", "refuted"), [*REFUTED, (1, 3, 1, False)])
def test_an_effect_is_refuted_on_the_other_side_or_where_none_of_five_points_has_room(low, high, wanted, refuted):
    assert Effect("e", Difference((low + high) / 2, low, high), wanted).refuted is refuted


def test_a_section_is_written_with_its_verdicts_and_collected(tmp_path: Path):
    verdict = judge("it works", [Effect("yes", Difference(2, 1, 3))])
    study = Study("one", "A first thing", "A claim.", 1, lambda workspace: Section("Text.", (), (verdict,)))
    docs = tmp_path / "results.md"
    docs.write_text("# Results\n\nHead.\n\n<!-- begin summary -->\n<!-- end summary -->\n\nTail.\n")
    for _ in range(2):  # the second time in its place
        write_section(study, run(study, Workspace(tmp_path / "one")), Workspace(tmp_path / "one"), docs)
        put_between(docs, "summary", summary([study], docs))
    text, many = docs.read_text(), judge("many", [Effect(f"e{i}", Difference(2, 1, 3)) for i in range(6)])
    write_section(study, Section("Text.", (), (many,)), Workspace(tmp_path / "one"), tmp_path / "other" / "results.md")
    assert "e3 +2.0 (+1.0 to +3.0) ✓; and 2 more | 3 | [A first thing](#a-first-thing) |" in summary(
        [study], tmp_path / "other" / "results.md"
    )
    assert text.count("**It works: holds.** yes +2.0 (+1.0 to +3.0)") == 1 and text.count("| it works | holds |") == 1
    assert "[A first thing](#a-first-thing)" in text
    assert text.index("| it works") < text.index("Tail.") < text.index("## A first thing")
    assert "recipes.yaml" not in text, "no run was asked for"
    workspace = Workspace(tmp_path / "one")
    workspace.keep("an arm", RunConfig(lr=1e-3))
    write_section(study, run(study, workspace), workspace, docs)
    assert "Recipes of all runs: [one.yaml](tables/one.yaml)." in docs.read_text()
    assert (tmp_path / "tables" / "one.yaml").read_text() == "an arm:\n  lr: 0.001\n"
    assert json.loads((tmp_path / "tables" / "verdicts.json").read_text())["one"][0]["outcome"] == "holds"
    docs.write_text("<!-- begin one -->")
    with pytest.raises(SeaAnchorError, match="without"):
        put_between(docs, "one", "x")


def test_a_claim_names_a_set_that_is_given(tmp_path):
    """`{photos}` is the folder that `--extra photos=` names, under which rows are kept."""
    rows = [replace(row(arm, 0, clean=share), dataset="a/folder") for arm, share in (("a", 0.5), ("b", 0.4))]
    claim = Claim("a is right more often", (Contrast("clean", "a", "b", "clean", "{photos}"),))
    assert "+10.0" in verdict_of(claim, rows, Workspace(tmp_path, extra=(("photos", "a/folder"),))).effect
    with pytest.raises(ValueError, match="no clean of a"):
        verdict_of(claim, rows, Workspace(tmp_path))


def test_a_new_section_stands_behind_the_last_earlier_one(tmp_path):
    docs = tmp_path / "results.md"
    for name, earlier in (("a", ()), ("d", ("a", "b", "c")), ("b", ("a",)), ("c", ("a", "b")), ("z", ("y",))):
        put_between(docs, name, f"{name}\n", earlier)
    put_between(docs, "c", "again\n", ("d",))
    lines = [line for line in docs.read_text().splitlines() if line and "<!--" not in line]
    assert lines == ["# Results", "a", "b", "again", "d", "z"]


def test_studies_have_different_names_and_titles():
    assert len({e.title for e in STUDIES.values()}) == len(STUDIES) and all(
        name == e.name for name, e in STUDIES.items()
    )
    assert all(0 < e.minutes <= (240 if name.startswith("real-") else 40) for name, e in STUDIES.items())
    assert tuple(STUDIES) == ORDER, "the order of the summary names every study"
