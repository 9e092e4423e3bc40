"""Every number of a result, its interval, and what counts as a gain."""

from dataclasses import replace

import pytest

from seaanchor.evaluation.result_files import decode
from seaanchor.evaluation.statistics import interval
from seaanchor.report.measures import Measure, Value, difference
from seaanchor.report.readers import measures


def found(result: dict) -> dict:
    return {(m.suite, m.label): m for m in measures(decode(result))}


def test_the_interval_of_a_difference_is_the_published_one():
    """Newcombe 1998, table II, example (a): 56 of 70 against 48 of 80, method 10."""
    here, there = (Value(hit / n, *interval(hit, n), n) for hit, n in ((56, 70), (48, 80)))
    change = difference(here, there)
    assert (change.low, change.value, change.high) == pytest.approx((0.0524, 0.2, 0.3339), abs=5e-4)


def test_without_an_interval_on_either_side_there_is_none():
    assert difference(Value(0.5), Value(0.4, 0.3, 0.5)) == Value(pytest.approx(0.1))


@pytest.mark.parametrize(
    ("value", "better", "verdict"),
    [
        (0.9, "higher", "gain"),
        (0.1, "higher", "loss"),
        (0.9, "lower", "loss"),
        (0.1, "lower", "gain"),
        (0.52, "higher", "unclear"),
        (0.9, "", ""),
    ],
)
def test_a_gain_is_what_the_interval_sets_apart_from_nothing(value, better, verdict):
    measure = Measure("s", "g", "l", Value(value, value - 0.05, value + 0.05), Value(0.5, 0.45, 0.55), better)
    assert measure.verdict == verdict
    assert replace(measure, reference=None).verdict == ""


def test_every_suite_is_read(made):
    numbers = found(made.everything())
    assert {suite for suite, _ in numbers} == {
        "clean",
        "robust",
        "embedding",
        "typographic",
        "reading",
        "noise",
        "corruptions",
        "retrieval",
        "probe",
        "interpretability",
        "bias",
        "drift",
    }
    assert numbers["typographic", "drawn word wins"].better == "lower"
    assert numbers["noise", "σ = 32/255"].value == Value(0.4, pytest.approx(0.3), 0.5, 50)
    assert (
        numbers["corruptions", "motion blur, severity 3"].fold
        and not numbers["corruptions", "mean over kinds and severities"].fold
    )
    assert numbers["drift", "within ρ = 0.1"].value.value == 0.9
    assert numbers["bias", "gender named rightly"].better == ""  # neither is a gain


def test_square_counts_queries(made):
    row = {"attack": "square", "epsilon": 1 / 255, "norm": "linf", "num_steps": 1000} | made.rows(0.5)
    assert found(made.everything(robust=[row]))["robust", "ε = 1/255"].group == "Square, 1000 queries, ℓ∞"


def test_the_reference_stands_beside_the_same_number_only(made):
    result = made.everything(reference=made.result(0.6, 0.1))  # PGD with 7 steps, not APGD with 10
    numbers = found(result)
    assert numbers["clean", "top-1"].reference.value == 0.6
    assert numbers["robust", "ε = 2/255"].reference is None


def test_the_first_format_keeps_norm_steps_and_drawings_elsewhere(made):
    result = made.result(0.5, 0.3)
    result["protocol"]["plans"][0]["norm"] = "l2"
    plan = {"half": "even", "split": "train", "sizes": [0.1, 0.2], "seed": 0}
    result["suites"] = {
        "typographic": {key: made.rows(0.4) for key in ("attacked", "attack_word", "two_way")} | {"plan": plan}
    }
    numbers = found(result)
    assert numbers["robust", "ε = 2/255"].group == "PGD, 7 steps, ℓ2"
    assert (
        numbers["typographic", "wrong word drawn (T)"].group
        == "Drawn words, even words, train fonts, 10 to 20 % of the side"
    )
