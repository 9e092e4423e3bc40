"""What a model card says of a result: how many, by which head, of which pictures, and which checks."""

from dataclasses import replace

import pytest
import torch

from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.head_file import head_digest
from seaanchor.evaluation.results import (
    Check,
    EvaluationResult,
    HeadRecord,
    ProtocolRecord,
    RobustAccuracies,
    RobustAccuracy,
)
from seaanchor.evaluation.statistics import share_of
from seaanchor.export.card_method import method_lines
from seaanchor.report.model_card import numbers_of
from seaanchor.types import Head, NamedHead


def result(**changes) -> EvaluationResult:
    how = str(Preprocessing(64, resize_size=67, colours="rgb"))
    protocol = ProtocolRecord(seed=0, preprocessing=how, class_names=("cat", "dog"), head=HeadRecord("classifier"))
    clean = share_of(torch.tensor([True]))
    checks = {f"check {i}": Check(True) for i in range(13)}
    return replace(EvaluationResult("photos", "m", clean=clean, checks=checks, protocol=protocol), **changes)


def test_one_image_and_pictures_in_words():
    text = numbers_of(result()).protocol
    assert text.startswith("Protocol: 1 image of 2 classes, seed 0, answers by the model's own classifier")
    how = "shorter side resized to 67 pixels (bicubic), centre crop to 64 × 64, colours converted to RGB before"
    assert text.endswith(f" Pictures: {how}.")
    other = replace(result().protocol, preprocessing="size=64,shape=round")
    assert numbers_of(result(protocol=other)).protocol.endswith("Pictures: size=64,shape=round.")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Preprocessing(224), "shorter side resized to 224 pixels (bicubic), centre crop to 224 × 224"),
        (
            Preprocessing(224, "longest", "bilinear", fill=128),
            "longer side resized to 224 pixels (bilinear), padded to 224 × 224 with the level 128",
        ),
        (
            Preprocessing(8, "none", crop="down"),
            "not resized, centre crop to 8 × 8 (its corner rounded down), padded to 8 × 8 with the level 0",
        ),
        (
            Preprocessing(8, "squash", resize_size=6, fill=(1, 2, 3), colours="rgb", backend="torchvision"),
            "resized to 6 × 6 pixels (bicubic), whatever the proportions, padded to 8 × 8 with the level 1/2/3, "
            "colours converted to RGB before, by torchvision",
        ),
    ],
)
def test_every_preprocessing_has_words(how, said):
    from seaanchor.encoders.input_settings import in_words

    assert how.words == said == in_words(str(how))


def test_checks_of_the_model_and_of_the_untouched_one_are_counted_apart():
    model, untouched = result(), result(checks={f"check {i}": Check(True) for i in range(12)})
    assert "self-checks: 13 of 13 passed, Sea" in numbers_of(model).protocol
    both = "13 of 13 passed, and 12 of 12 of the untouched model"
    assert f"self-checks: {both}, Sea" in numbers_of(replace(model, reference=untouched)).protocol
    failed = replace(model, reference=result(checks={"steps": Check(False, "weaker")}))
    assert numbers_of(failed).failed == ("reference, steps (weaker)",)


def test_the_head_is_named_by_its_file_if_it_is_the_one_that_was_used():
    kept = NamedHead(Head(torch.eye(2), unit=False, kind="probe"), ("cat", "dog"))
    used = HeadRecord("probe", head_digest(kept), "/home/me/train")
    found = result(protocol=replace(result().protocol, head=used))
    assert "answers by a linear probe, head.safetensors, " in numbers_of(found, kept).protocol
    other = replace(kept, class_names=("dog", "cat"))
    for no in (None, other):
        text = numbers_of(found, no).protocol
        assert "answers by a linear probe (train) that is not in this folder, " in text and "/home" not in text


@pytest.mark.parametrize(
    ("attack", "count", "said"), [("pgd", 1, "1 step,"), ("pgd", 2, "2 steps,"), ("square", 1, "1 query,")]
)
def test_one_step_is_one_step(attack, count, said):
    rows = (RobustAccuracy(attack, 2 / 255, "linf", count, "fp32", share_of(torch.tensor([True]))),)
    numbers = numbers_of(result(robust=RobustAccuracies(rows)))
    assert any(said in row.what for row in numbers.rows)
    settings = {"perturbation": {"kind": "pgd", "epsilon": "2/255", "norm": "linf", "num_steps": count}}
    assert said.replace("query", "step").rstrip(",") + "\n" in "\n".join(method_lines(settings)) + "\n"
