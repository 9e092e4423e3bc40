"""Result files: every field survives, older formats are read, and what cannot be read is named."""

import json
import math
from dataclasses import replace

import pytest

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.result_files import FIRST, decode, encode, read_result, with_finite_check
from seaanchor.evaluation.result_folder import _slug
from seaanchor.evaluation.results import (
    AttackSettings,
    Check,
    Environment,
    EvaluationResult,
    ProtocolRecord,
    RobustAccuracies,
    RobustAccuracy,
)
from seaanchor.evaluation.statistics import Share, share_of
from seaanchor.evaluation.suite_results import (
    Bias,
    CorruptionLevel,
    Corruptions,
    Drift,
    EmbeddingAttack,
    EmbeddingRadius,
    Interpretability,
    Noise,
    NoiseLevel,
    Probe,
    Reading,
    Retrieval,
    Spread,
    Suites,
    Typographic,
    TypographicSettings,
    WordsAndNoise,
)
from seaanchor.utils.json_text import to_json, with_nulls

SHARE, SPREAD = share_of([True, False, True]), Spread(0.1, 0.09, 0.2, 0.5)
DRAWING = TypographicSettings("odd", "train", (0.1, 0.2), 3)


def robust(attack: str, epsilon: float, share: Share = SHARE, norm: str = "linf") -> RobustAccuracy:
    return RobustAccuracy(attack, epsilon, norm, 10, "fp32", share)


def everything() -> EvaluationResult:
    """A result with every field and every suite."""
    suites = Suites(
        Retrieval({"recall@1": SHARE}, {"recall@5": SHARE}),
        EmbeddingAttack((EmbeddingRadius(1 / 255, "linf", 10, SPREAD, 0.9, 3),)),
        Typographic(SHARE, SHARE, SHARE, DRAWING, SHARE, SHARE),
        WordsAndNoise(SHARE, {"pgd 1/255": SHARE}, TypographicSettings(words_tried=3)),
        Reading(SHARE, DRAWING),
        Noise((NoiseLevel(8.0, SHARE),)),
        Corruptions({"contrast": (CorruptionLevel(1, SHARE),)}, 2 / 3, 3),
        Bias(SHARE, SHARE, 0.5, {"uniform": {"ndkl": 0.1}}, 3, "a caveat"),
        Interpretability(0.3, 0.1, 0.2, 3, 80),
        Drift(0.9, SPREAD, (0.1, 0.2), 0.1, SHARE, 3),
        Probe(SHARE, SHARE, 20, 0.1, 30),
    )
    return EvaluationResult(
        "set",
        "model",
        "abc",
        metrics={"acc1": 2 / 3},
        clean=SHARE,
        constant_predictor=1 / 3,
        robust=RobustAccuracies((robust("pgd", 1 / 255), robust("apgd", 2 / 255))),
        suites=suites,
        checks={"eval mode": Check(True, "0 modules")},
        notes=("a note",),
        skipped="1 of 4 images",
        protocol=ProtocolRecord((AttackSettings("pgd", "linf", (1 / 255,), 10),), typographic=DRAWING, seed=0),
        environment=Environment("3.11", versions={"torch": "2", "peft": None}),
        reference=EvaluationResult("set", "reference", typographic_images=SHARE),
    )


def test_every_field_survives_a_file(tmp_path):
    result = everything()
    (tmp_path / "result.json").write_text(json.dumps(encode(result)))
    assert read_result(tmp_path / "result.json") == result
    assert tuple(encode(result))[: len(FIRST)] == FIRST


def test_robust_accuracies_by_attack_and_radius():
    found = RobustAccuracies((robust("pgd", 1 / 255), robust("apgd", 2 / 255, Share(0.25))))
    assert found["apgd", 2 / 255] == found["apgd", 0.00784314] == Share(0.25)
    assert list(found) == [("pgd", 1 / 255), ("apgd", 2 / 255)]
    with pytest.raises(KeyError, match=r"no robust accuracies of 'apgd' at 0.00392157; there are: 'pgd' at 0.00392157"):
        found["apgd", 1 / 255]
    with pytest.raises(KeyError, match="there are: none"):
        RobustAccuracies()["pgd", 1 / 255]
    twice = RobustAccuracies((robust("pgd", 0.5), robust("pgd", 0.5, norm="l2")))
    with pytest.raises(KeyError, match="2 robust accuracies"):
        twice["pgd", 0.5]


def test_a_newer_format_is_one_error_that_names_both():
    with pytest.raises(SeaAnchorError, match="format 5, of a newer version") as caught:
        decode(encode(everything()) | {"format": 5}, "a.json")
    assert caught.value.found.startswith("a.json")
    assert caught.value.expected == "format 1 to 4"
    assert "install" in caught.value.change


@pytest.mark.parametrize("version", [None, 0, "3", 2.5])
def test_an_unknown_format_is_an_error(version):
    with pytest.raises(SeaAnchorError, match=f"has format {version}"):
        decode(encode(everything()) | {"format": version})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": None}, "dataset is 'None' and not str"),
        ({"clean": {"low": 0.1}}, "clean.accuracy is missing"),
        ({"clean": 0.5}, "clean is '0.5' and not an object"),
        ({"robust": [{"attack": "pgd"}]}, r"\[0\].epsilon is missing"),
        ({"suites": {"drift": {"cosine": True}}}, "suites.drift.cosine is 'True' and not float"),
        ({"protocol": {"typographic": {"sizes": [1.0]}}}, "protocol.typographic.sizes is .* and not 2 values"),
    ],
)
def test_a_value_that_does_not_fit_is_named(change, message):
    with pytest.raises(SeaAnchorError, match=message):
        decode(encode(everything()) | change)


def test_files_that_are_no_results_are_errors(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("{}")
    with pytest.raises(SeaAnchorError, match="is no result file"):
        read_result(file)
    file.write_text('{"dataset": ')
    with pytest.raises(SeaAnchorError, match="is cut short or damaged"):
        read_result(file)


def test_numbers_that_are_not_finite_fail_a_check_and_are_null_in_the_file():
    whole = everything()
    assert with_finite_check(whole) == whole
    drift = replace(whole.suites.drift, cosine=math.nan)
    told = with_finite_check(replace(whole, suites=replace(whole.suites, drift=drift), metrics={"acc1": math.inf}))
    assert any("metrics.acc1 is inf, suites.drift.cosine is nan" in failed for failed in told.failed_checks)
    again = decode(json.loads(to_json(with_nulls(encode(told)))))
    assert math.isnan(again.suites.drift.cosine) and again.failed_checks == told.failed_checks


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("right", "zz", "non-hexadecimal"),
        ("right", "a0a0", "16 bits for 3 images"),
        ("right", "", "0 bits for 3 images"),
        ("n", -1, "a share of -1 images"),
        ("n", 9, "8 bits for 9 images"),
        ("n", True, "n is 'True' and not int"),
    ],
)
def test_a_share_whose_bits_are_not_those_of_its_images(key, value, said):
    """Bits that are missing would count as images that are wrong."""
    data = encode(everything())
    data["clean"] |= {key: value}
    with pytest.raises(SeaAnchorError, match=f"clean[\\s\\S]*{said}"):
        decode(data)


@pytest.mark.parametrize("version", [True, 4.0, [4], "4", None])
def test_a_format_that_is_no_number(version):
    with pytest.raises(SeaAnchorError, match="has format"):
        decode(encode(everything()) | {"format": version})


@pytest.mark.parametrize("name", ["./oc", "../oc", "oc"])
def test_no_result_file_is_hidden(name):
    assert _slug(name) == "oc"
