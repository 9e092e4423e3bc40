"""Square and AutoAttack's standard version against the package run as it comes."""

import builtins

import pytest
import torch
from pyautoattack import AutoAttack
from pyautoattack.fab_pt import FABAttack_PT
from pyautoattack.square import SquareAttack

from seaanchor.attacks import autoattack
from seaanchor.attacks.apgd_classifier import apgd_ce
from seaanchor.attacks.autoattack import autoattack_standard, fab_attack
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.square import square_attack
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import frozen
from seaanchor.types import Batch

WIDE = [Ball("linf", 16 / 255), Ball("l2", 2.0)]  # so that some images fall to a few queries
NARROW = [Ball("linf", 3 / 255), Ball("l2", 0.25)]


def rows_of(batch: Batch, rows) -> Batch:
    return Batch(batch.pixels_BCHW[rows], batch.label_B[rows], batch.index_B[rows])


@pytest.fixture(scope="module")
def some(photos) -> Batch:
    return rows_of(photos, slice(None, None, 8))


@pytest.mark.parametrize("ball", WIDE, ids=lambda ball: ball.norm)
def test_square_is_the_package_on_each_image_alone(small_classifier, some, ball):
    ours = square_attack(small_classifier, some, ball, num_queries=60, seed=3).fooled_B
    alone = []
    for i in range(len(some.index_B)):
        one = rows_of(some, slice(i, i + 1))
        peer = SquareAttack(
            small_classifier, norm={"linf": "Linf", "l2": "L2"}[ball.norm], n_queries=60, eps=ball.epsilon, seed=3
        )
        alone.append((small_classifier(peer.perturb(one.pixels_BCHW, one.label_B)).argmax(-1) != one.label_B).item())
    clean = (small_classifier(some.pixels_BCHW).argmax(-1) != some.label_B).sum()
    assert clean < ours.sum() < len(ours)
    assert (ours != torch.tensor(alone)).sum() <= 1  # rounding of another batch size


def test_square_by_batches_and_by_seed(small_classifier, some):
    ball = WIDE[0]
    whole = square_attack(small_classifier, some, ball, 60).fooled_B
    parts = torch.cat(
        [
            square_attack(small_classifier, rows_of(some, rows), ball, 60).fooled_B
            for rows in (slice(0, 7), slice(7, 25))
        ]
    )
    assert (parts != whole).sum() <= 1
    assert torch.equal(square_attack(small_classifier, some, ball, 60).fooled_B, whole)
    assert not torch.equal(square_attack(small_classifier, some, ball, 60, seed=1).fooled_B, whole)
    assert square_attack(small_classifier, some, ball, 400).fooled_B.sum() > whole.sum() > 3
    nothing = square_attack(small_classifier, some, Ball("linf", 0.0), 5).fooled_B
    assert torch.equal(nothing, small_classifier(some.pixels_BCHW).argmax(-1) != some.label_B)


def test_the_global_random_state_is_put_back(small_classifier, some):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    square_attack(small_classifier, some, NARROW[0], 3)
    fab_attack(small_classifier, some, NARROW[0], 10, num_steps=2, num_targets=2)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("ball", NARROW, ids=lambda ball: ball.norm)
def test_standard_leaves_standing_what_the_package_leaves(small_classifier, some, ball):
    """Same steps, targets and queries; the package's random starts are others, so one image may differ."""
    few = rows_of(some, slice(0, 8))
    peer = AutoAttack(small_classifier, norm={"linf": "Linf", "l2": "L2"}[ball.norm], eps=ball.epsilon, seed=0)
    peer.square.n_queries = 100
    peer.fab.n_iter = peer.apgd.n_iter = peer.apgd_targeted.n_iter = 20
    theirs = small_classifier(peer.run_standard_evaluation(few.pixels_BCHW, few.label_B)[0]).argmax(-1) != few.label_B
    ours = autoattack_standard(small_classifier, few, ball, num_steps=20, num_queries=100).fooled_B
    assert 0 < theirs.sum() < len(theirs)
    assert (ours != theirs).sum() <= 1


def test_standard_takes_at_least_what_apgd_takes_and_batch_size_changes_nothing(small_classifier, some):
    ball = Ball("linf", 3 / 255)
    settings = {"num_steps": 10, "num_queries": 50, "num_targets": 3}
    whole = autoattack_standard(small_classifier, some, ball, **settings).fooled_B
    first = apgd_ce(small_classifier, some.pixels_BCHW, some.label_B, ball, num_steps=10, index_B=some.index_B)
    assert not (first.fooled_B & ~whole).any() and not whole.all()
    parts = torch.cat(
        [
            autoattack_standard(small_classifier, rows_of(some, rows), ball, **settings).fooled_B
            for rows in (slice(0, 9), slice(9, 25))
        ]
    )
    assert (parts != whole).sum() <= 1
    at_zero = autoattack_standard(small_classifier, some, Ball("linf", 0.0), **settings).fooled_B
    assert torch.equal(at_zero, small_classifier(some.pixels_BCHW).argmax(-1) != some.label_B)


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_few_classes(small_classifier, some, num_classes, monkeypatch):
    few = rows_of(some, some.label_B < num_classes)
    called = []
    targeted = autoattack.apgd_targeted
    monkeypatch.setattr(autoattack, "apgd_targeted", lambda *a, **k: called.append(1) or targeted(*a, **k))
    fooled = autoattack_standard(
        lambda p: small_classifier(p)[:, :num_classes], few, Ball("linf", 1 / 255), num_steps=5, num_queries=10
    ).fooled_B
    assert fooled.shape == few.label_B.shape
    assert bool(called) == (num_classes >= 4)


def test_fab_finds_the_boundary_of_a_linear_classifier():
    """Two classes divided by a·x = 0: the nearest boundary is |a·x|/‖a‖₁ away (l-inf), and FAB succeeds just beyond it
    and not before."""
    a = torch.randn(3 * 4 * 4, generator=torch.Generator().manual_seed(0))
    pixels = 0.4 + 0.2 * torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def logits(p):
        side = (p - 0.5).flatten(1) @ a
        return torch.stack([-side, side], 1)

    batch = Batch(pixels, logits(pixels).argmax(-1), torch.arange(8))
    nearest = ((pixels - 0.5).flatten(1) @ a).abs() / a.abs().sum()
    for share, expected in ((0.9, False), (1.1, True)):
        for i in range(8):
            one = rows_of(batch, slice(i, i + 1))
            assert (
                fab_attack(logits, one, Ball("linf", share * nearest[i].item()), 2, num_steps=20).fooled_B.item()
                == expected
            )


def test_an_image_outside_the_ball_is_refused(small_classifier, some, monkeypatch):
    monkeypatch.setattr(SquareAttack, "perturb", lambda self, x, y: (x + 0.1).clamp(0, 1))
    with pytest.raises(SeaAnchorError, match=r"Square returned an image 0\.1"):
        square_attack(small_classifier, some, Ball("linf", 0.05), 5)
    monkeypatch.setattr(SquareAttack, "perturb", lambda self, x, y: x * float("nan"))
    with pytest.raises(SeaAnchorError, match="Square returned an image nan"):
        square_attack(small_classifier, some, Ball("linf", 0.05), 5)
    monkeypatch.setattr(SquareAttack, "perturb", lambda self, x, y: x - 0.04)
    with pytest.raises(SeaAnchorError, match="pixels in"):
        square_attack(small_classifier, some, Ball("linf", 0.05), 5)


def test_without_the_extra_or_labels(small_classifier, some, monkeypatch):
    with pytest.raises(SeaAnchorError, match="without labels"):
        autoattack_standard(small_classifier, Batch(some.pixels_BCHW, None, some.index_B), NARROW[0])
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("pyautoattack"):
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    for attack in (square_attack, autoattack_standard):
        with pytest.raises(SeaAnchorError, match=r"seaanchor\[attacks\]"):
            attack(small_classifier, some, NARROW[0])


def test_the_embedded_model_falls_and_collects_no_gradients():
    model, images = load_model("seaanchor-tiny"), subset(open_images("photos-mini/test"), 8, 0)
    batch = next(batches(ImageDataset(images, 64), 8, workers=0, order=None, skip_log=SkipLog(images)))
    head = build_head(model, images.class_names)

    def logits(p):
        return head(model.encoder(p))

    with frozen(model.encoder):
        clean = logits(batch.pixels_BCHW).argmax(-1) != batch.label_B
        standard = autoattack_standard(
            logits, batch, Ball("linf", 1 / 255), num_steps=10, num_queries=20, num_targets=2
        ).fooled_B
        square = square_attack(logits, batch, Ball("linf", 4 / 255), 40).fooled_B
    assert standard.sum() > clean.sum() and not (clean & ~square).any() and square.sum() > clean.sum()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())


def test_the_images_handed_back_are_the_ones_that_fool(small_classifier, some):
    ball = WIDE[0]
    for result in (
        square_attack(small_classifier, some, ball, 60),
        autoattack_standard(small_classifier, some, NARROW[0], num_steps=5, num_queries=20, num_targets=2),
    ):
        assert torch.equal(small_classifier(result.pixels_BCHW).argmax(-1) != some.label_B, result.fooled_B)
        assert 0 < result.fooled_B.sum() < len(result.fooled_B)
        assert ball.distance(result.pixels_BCHW, some.pixels_BCHW).max() <= ball.epsilon + 1e-6


def test_fab_fills_no_gradient_of_weights_that_ask_for_some(small_classifier, some):
    with frozen(small_classifier):
        expected = fab_attack(small_classifier, some, NARROW[0], 10, num_steps=3, num_targets=2)
    small_classifier.requires_grad_(True)
    result = fab_attack(small_classifier, some, NARROW[0], 10, num_steps=3, num_targets=2)
    assert all(p.grad is None for p in small_classifier.parameters())
    small_classifier.requires_grad_(False)
    assert torch.equal(result.pixels_BCHW, expected.pixels_BCHW)


def test_fab_aims_at_a_class_that_ties_with_the_label_and_not_at_the_label(monkeypatch):
    """Three classes of equal logits everywhere: FAB sorts them, and the label would be the second of them."""
    weight = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    weight[:, 1] += 0.5
    weight[:, 3] = weight[:, 4] = weight[:, 1]
    pixels = torch.rand(64, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    label = (pixels.flatten(1) @ weight).argmax(-1)
    aims, original = [], FABAttack_PT.get_diff_logits_grads_batch_targeted

    def recording(self, imgs, la, la_target):
        aims.extend(zip(la.tolist(), la_target.tolist(), strict=True))
        return original(self, imgs, la, la_target)

    monkeypatch.setattr(FABAttack_PT, "get_diff_logits_grads_batch_targeted", recording)
    tied = label == 1  # the first of the three, which is the answer
    batch = Batch(pixels[tied], label[tied], torch.arange(int(tied.sum())))
    result = fab_attack(lambda p: p.flatten(1) @ weight, batch, WIDE[0], 6, num_steps=2, num_targets=2)
    assert len(result.fooled_B) > 5 and {of for of, _ in aims} == {1} and {aim for _, aim in aims} == {3, 4}
