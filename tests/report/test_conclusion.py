"""The sentence at the top of the page: gains, losses and what is undecided, from the numbers."""

import json

import numpy as np
import pytest

from seaanchor.evaluation.statistics import interval
from seaanchor.report.conclusion import conclusion
from seaanchor.report.glance import glance
from seaanchor.report.sources import read_sources
from seaanchor.report.tables import datasets

N = 200


def bits(right: range) -> dict:
    """A share of N images: those with these numbers."""
    hit_N = np.isin(np.arange(N), right)
    low, high = interval(len(right), N)
    return {"accuracy": len(right) / N, "low": low, "high": high, "n": N, "right": np.packbits(hit_N).tobytes().hex()}


def result(clean: range | None, attacked: range | None, **more) -> dict:
    """A result of a model that is right on the images with these numbers."""
    plan = {"attack": "pgd", "epsilon": 1 / 255, "norm": "linf", "num_steps": 3, "precision": "fp32"}
    return {
        "format": 4,
        "dataset": "photos",
        "model": "fare",
        "pretrained": "x",
        "clean": clean and bits(clean),
        "robust": [plan | {"share": bits(attacked)}] if attacked else [],
        "protocol": {"images": "1"},
    } | more


def sentence(folder, model: dict, reference: dict | None) -> str:
    (folder / "a.json").write_text(json.dumps(model | {"reference": reference}))
    (table,) = datasets(read_sources([folder]).entries)
    return conclusion(glance(table, None), 0).replace("\N{NO-BREAK SPACE}", " ")


BEFORE = result(range(150), range(40), model="base", pretrained="base")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            result(range(143), range(60)),  # 7 lost of 200; 20 won
            "On 200 images of photos, fare gains 10.0 points under attack (PGD at ε = 1/255, from 20.0 to 30.0 %) and "
            "loses 3.5 points on clean images (from 75.0 to 71.5 %).",
        ),
        (
            result(range(148), range(60)),
            "On 200 images of photos, fare gains 10.0 points under attack (PGD at ε = 1/255, from 20.0 to 30.0 %), and "
            "no loss is shown; the change is undecided on clean images (\N{MINUS SIGN}1.0 points).",
        ),
        (
            result(range(100), range(40)),
            "On 200 images of photos, fare loses 25.0 points on clean images (from 75.0 to 50.0 %), and no gain is "
            "shown; the change is undecided under attack (0.0 points).",
        ),
        (
            result(range(149), range(41)),
            "On 200 images of photos, no difference between fare and the untouched model is shown; the change is "
            "undecided on clean images (\N{MINUS SIGN}0.5 points) and under attack (+0.5 points).",
        ),
        (
            result(None, range(60)),
            "On 200 images of photos, fare gains 10.0 points under attack (PGD at ε = 1/255, from 20.0 to 30.0 %), and "
            "no loss is shown; the cost on clean images was not measured.",
        ),
        (
            result(range(143), None),
            "On 200 images of photos, fare loses 3.5 points on clean images (from 75.0 to 71.5 %), and no gain is "
            "shown; nothing was measured under attack.",
        ),
    ],
)
def test_the_sentence_says_what_the_numbers_say(model, text, tmp_path):
    assert sentence(tmp_path, model, BEFORE) == text


def test_without_the_untouched_model_nothing_is_gained(tmp_path):
    assert sentence(tmp_path, result(range(100), range(40)), None) == (
        "On 200 images of photos, fare reaches 50.0 % on clean images and 20.0 % under attack; it was measured without "
        "the untouched model, so nothing is known of gains and costs."
    )


def test_failed_checks_come_first(tmp_path):
    model = result(range(143), range(60), checks={"steps": {"passed": False, "detail": ""}})
    assert sentence(tmp_path, model, BEFORE).startswith(
        "Self-checks failed, so this is not to be trusted: on 200 images"
    )
    reference = BEFORE | {"checks": {"steps": {"passed": False, "detail": ""}}}
    assert sentence(tmp_path, result(range(143), range(60)), reference).startswith("Self-checks failed")
