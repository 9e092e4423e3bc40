"""Gradients of low precision propose; whether an image is fooled is judged in fp32."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import DOUBT, Classifier, margin, misclassified
from seaanchor.attacks.pgd import pgd_attack
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan, attack_all, attack_survivors
from seaanchor.evaluation.result_files import read_result
from seaanchor.evaluation.zeroshot import accuracy_rows, classifier, labelled, outcomes
from seaanchor.types import Batch

MODELS = Path(__file__).parents[2] / "models"

CPU = torch.device("cpu")
EPSILON = 2 / 255
imitated = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor imitates bf16, a dozen times slower than it computes in fp32, and no run uses it",
)


@pytest.fixture(scope="module")
def robust():
    """A shipped robust model as a classifier, and the test photos among 64 that it gets right."""
    model, images = load_model(str(MODELS / "seaanchor-tiny-fare")), labelled("photos-mini/test", None, 64, 0)
    logits = classifier(model, build_head(model, images.class_names or ()), CPU, "bf16")
    batch = next(batches(ImageDataset(images, 64), 64, workers=0, order=None, skip_log=SkipLog(images)))
    with torch.no_grad():
        rows = (logits(batch.pixels_BCHW).argmax(-1) == batch.label_B).nonzero().squeeze(1)
    return logits, Batch(batch.pixels_BCHW[rows], batch.label_B[rows], batch.index_B[rows]), model


def test_the_folded_classifier_agrees_with_the_model(robust):
    logits, batch, model = robust
    head = build_head(model, labelled("photos-mini/test", None, 64, 0).class_names or ())
    with torch.no_grad():
        assert torch.allclose(logits(batch.pixels_BCHW), head(model.encoder(batch.pixels_BCHW)), atol=1e-4)
        assert not torch.allclose(logits.low(batch.pixels_BCHW), logits(batch.pixels_BCHW), atol=1e-4)


@imitated
@pytest.mark.parametrize("attack", [pytest.param(pgd_attack, marks=pytest.mark.exhaustive), apgd_ce, apgd_targeted])
def test_success_is_an_fp32_success_and_as_many_images_fall(robust, attack):
    logits, batch, _ = robust
    settings = {"num_steps": 5, "index_B": batch.index_B}
    if attack is apgd_targeted:
        settings["num_targets"] = 2
    ball = Ball("linf", EPSILON)
    found = attack(logits, batch.pixels_BCHW, batch.label_B, ball, follow=logits.low, **settings)
    with torch.no_grad():
        fooled_B = logits(found.pixels_BCHW[found.fooled_B]).argmax(-1) != batch.label_B[found.fooled_B]
    assert len(fooled_B) > 3 and bool(fooled_B.all())
    assert ball.distance(found.pixels_BCHW, batch.pixels_BCHW).max() <= EPSILON + 1e-6
    plain = attack(logits, batch.pixels_BCHW, batch.label_B, ball, **settings)
    assert found.fooled_B.sum() >= plain.fooled_B.sum() - 1


def test_the_low_precision_alone_is_never_believed(robust):
    """It says that every image is fooled, and fp32 that none is."""
    logits, batch, _ = robust
    swapped = Classifier(logits.judge, lambda pixels: -logits.judge(pixels))
    found = apgd_ce(
        swapped,
        batch.pixels_BCHW,
        batch.label_B,
        Ball("linf", 0.0),
        num_steps=2,
        index_B=batch.index_B,
        follow=swapped.low,
    )
    assert not found.fooled_B.any()


def test_an_image_in_doubt_is_looked_at(robust):
    """The label still wins in low precision, by little; fp32 has the image fooled."""
    label_B = torch.tensor([0, 0, 0])
    low_BC = torch.tensor([[10.0, 10 - 20 * DOUBT / 2, -10.0], [10.0, 0.0, -10.0], [0.0, 10.0, -10.0]])
    seen = []

    def judge(pixels):
        seen.append(len(pixels))
        return torch.tensor([[0.0, 1.0, 0.0]]).expand(len(pixels), -1)

    done = misclassified(label_B, judge)(low_BC, torch.arange(3), torch.zeros(3, 1, 1, 1))
    assert done.tolist() == [True, False, True] and seen == [2]  # in doubt, safe, lost


def test_margin():
    logits_BC = torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [2.0, 2.0, 0.0]])
    assert margin(logits_BC, torch.tensor([0, 0, 0])).tolist() == [1.0, -2.0, 0.0]


def test_the_doubt_is_wider_than_the_error_of_bf16(robust):
    """On clean and on attacked images, where it decides."""
    logits, batch, _ = robust
    attacked = pgd_attack(
        logits, batch.pixels_BCHW, batch.label_B, Ball("linf", EPSILON), num_steps=3, index_B=batch.index_B
    )
    with torch.no_grad():
        for pixels in (batch.pixels_BCHW, attacked.pixels_BCHW):
            exact, low = logits(pixels), logits.low(pixels)
            error_B = (margin(low, batch.label_B) - margin(exact, batch.label_B)).abs()
            assert (error_B < 0.5 * DOUBT * (low.amax(-1) - low.amin(-1))).all()


@imitated
def test_plans_of_both_precisions_stand_side_by_side(robust):
    logits, batch, _ = robust
    plain = AttackPlan("apgd-ce", "linf", (EPSILON,), 3)
    low = replace(plain, precision="bf16")
    correct_B = torch.ones_like(batch.label_B, dtype=torch.bool)
    found = attack_all(logits, batch, correct_B, (plain, low))
    assert set(found) == {(plain, EPSILON), (low, EPSILON)}
    with torch.no_grad():
        rows = accuracy_rows(logits, batch, logits(batch.pixels_BCHW), (plain, low)) | {"index": batch.index_B}
    assert set(outcomes(rows, (plain, low)).attacked) == set(found)


@pytest.mark.parametrize("name", ["square", "autoattack"])
def test_attacks_without_low_precision_say_so(robust, name):
    logits, batch, _ = robust
    with pytest.raises(SeaAnchorError, match="bf16"):
        attack_survivors(
            logits, batch, batch.label_B >= 0, AttackPlan(name, "linf", (EPSILON,), 3, precision="bf16"), EPSILON
        )


def test_a_classifier_without_low_precision_says_so(robust):
    logits, batch, _ = robust
    for plain in (logits.judge, Classifier(logits.judge)):
        with pytest.raises(SeaAnchorError, match="bf16"):
            attack_survivors(
                plain, batch, batch.label_B >= 0, AttackPlan("pgd", "linf", (EPSILON,), 3, precision="bf16"), EPSILON
            )


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_result_file_names_the_precision(run, tmp_path, monkeypatch):
    call = [
        "evaluate",
        "--model",
        str(MODELS / "seaanchor-tiny-fare"),
        "--data",
        "photos-mini",
        "--samples",
        "12",
        "--output",
        tmp_path,
    ]
    pgd = [*call, "--suite", "pgd", "--epsilon", "2/255", "--num-steps", "1", "--attack-precision", "bf16"]
    there = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # or it takes minutes
    for can in (True, False) if there else (False,):  # a processor that is slow in bf16 follows fp32, and says so
        monkeypatch.setattr("seaanchor.evaluation.prepare.computes_in_bf16", lambda device, can=can: can)
        code, out, err = run(*pgd)
        assert code == 0, err
        result = read_result(next(tmp_path.glob("*.json")))
        precision = "bf16" if can else "fp32"
        assert result.protocol.plans[0].precision == result.robust.rows[0].precision == precision
        assert ("gradients in" in out and "bf16" in out) == can and ("no fast arithmetic in bf16" in err) != can
    code, _, err = run(*call, "--suite", "clean", "--attack-precision", "bf16")
    assert code != 0 and "--attack-precision bf16" in err
