"""APGD against AutoAttack's own implementation: the same starts must give the same fooled images."""

import pytest
import torch
import torch.nn.functional as F
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted, dlr_targeted, wrong_classes
from seaanchor.attacks.ball import Ball
from seaanchor.errors import SeaAnchorError

RADII = [("linf", 2 / 255), ("linf", 4 / 255), ("linf", 8 / 255), ("l2", 0.1), ("l2", 0.3)]


@pytest.fixture
def in_double(monkeypatch, small_classifier, photos):
    """The classifier and the images in float64; AutoAttack casts images to float32, so `.float()` is made to do
    nothing."""
    monkeypatch.setattr(
        torch.Tensor, "float", lambda self, **kw: self.to(torch.float64) if not self.is_floating_point() else self
    )
    return small_classifier.double(), photos.pixels_BCHW.double(), photos.label_B


@pytest.fixture(autouse=True)
def restore_precision(small_classifier):
    yield
    small_classifier.float()


def correct_rows(model, pixels, labels):
    return (model(pixels).argmax(-1) == labels).nonzero().squeeze(1)


def recorded_starts(monkeypatch):
    """AutoAttack draws its starts inside; record them as it draws, to start from the same points."""
    starts = []
    single = APGDAttack.attack_single_run

    def recording(self, x, y, x_init=None):
        draw = torch.rand if self.norm == "Linf" else torch.randn
        noise = draw(x.shape, dtype=x.dtype)
        noise = 2 * noise - 1 if self.norm == "Linf" else noise
        starts.append(x + self.eps * self.normalize(noise))
        return single(self, x, y, x_init=starts[-1])

    monkeypatch.setattr(APGDAttack, "attack_single_run", recording)
    return starts


@pytest.mark.parametrize(("norm", "epsilon"), RADII)
@pytest.mark.parametrize("num_steps", [1, 10, pytest.param(40, marks=pytest.mark.exhaustive)])
def test_apgd_ce_fools_exactly_the_images_autoattack_fools(monkeypatch, in_double, norm, epsilon, num_steps):
    model, pixels, labels = in_double
    rows = correct_rows(model, pixels, labels)
    starts = recorded_starts(monkeypatch)
    torch.manual_seed(0)
    peer = APGDAttack(
        model, n_iter=num_steps, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, seed=0, loss="ce", device="cpu"
    )
    theirs = peer.perturb(pixels[rows], labels[rows])
    ours = apgd_ce(
        model, pixels[rows], labels[rows], Ball(norm, epsilon), num_steps=num_steps, index_B=rows, start_BCHW=starts[0]
    )
    their_fooled = model(theirs).argmax(-1) != labels[rows]
    assert torch.equal(ours.fooled_B, their_fooled)
    assert torch.equal(model(ours.pixels_BCHW).argmax(-1) != labels[rows], ours.fooled_B)


@pytest.mark.parametrize(
    ("norm", "epsilon"),
    [RADII[1], *(pytest.param(*radius, marks=pytest.mark.exhaustive) for radius in (RADII[2], *RADII[4:]))],
)
def test_apgd_targeted_fools_exactly_the_images_autoattack_fools(monkeypatch, in_double, norm, epsilon):
    model, pixels, labels = in_double
    rows = correct_rows(model, pixels, labels)
    starts = recorded_starts(monkeypatch)
    peer = APGDAttack_targeted(
        model, n_iter=10, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, seed=0, n_target_classes=9, device="cpu"
    )
    theirs = peer.perturb(pixels[rows], labels[rows])
    their_fooled = model(theirs).argmax(-1) != labels[rows]
    ours = apgd_targeted(
        model,
        pixels[rows],
        labels[rows],
        Ball(norm, epsilon),
        num_steps=10,
        index_B=rows,
        starts=lambda target, _: starts[target],
    )
    assert 0 < int(their_fooled.sum()) < len(rows)
    assert torch.equal(ours.fooled_B, their_fooled)


def test_without_retirement_the_highest_loss_matches(monkeypatch, in_double):
    model, pixels, labels = in_double
    starts = recorded_starts(monkeypatch)
    torch.manual_seed(0)
    peer = APGDAttack(model, n_iter=20, norm="Linf", eps=4 / 255, seed=0, loss="ce", device="cpu")
    peer.init_hyperparam(pixels)
    best, *_ = peer.attack_single_run(pixels, labels)
    ours = apgd_ce(
        model, pixels, labels, Ball("linf", 4 / 255), num_steps=20, index_B=labels, start_BCHW=starts[0], retire=False
    )
    reached, wanted = (F.cross_entropy(model(images), labels, reduction="none") for images in (ours.pixels_BCHW, best))
    assert torch.allclose(reached, wanted, atol=1e-7)  # the pixels may differ where a gradient is 0 but for rounding
    assert (wanted > F.cross_entropy(model(pixels), labels, reduction="none") + 1e-3).any()


def test_retired_images_cost_nothing_more(small_classifier, photos):
    seen = []

    def counting(pixels):
        seen.append(len(pixels))
        return small_classifier(pixels)

    result = apgd_ce(
        counting, photos.pixels_BCHW, photos.label_B, Ball("linf", 8 / 255), num_steps=20, index_B=photos.index_B
    )
    assert seen[0] == len(photos.label_B)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] <= len(photos.label_B) - int(result.fooled_B.sum()) + 1


def test_stays_in_the_ball_and_in_range(small_classifier, photos):
    for norm, epsilon in RADII:
        ball = Ball(norm, epsilon)
        result = apgd_ce(
            small_classifier, photos.pixels_BCHW, photos.label_B, ball, num_steps=5, index_B=photos.index_B
        )
        assert ball.distance(result.pixels_BCHW, photos.pixels_BCHW).max() <= epsilon * (1 + 1e-5)
        assert result.pixels_BCHW.min() >= 0 and result.pixels_BCHW.max() <= 1


def test_outcome_does_not_depend_on_the_batch(small_classifier, photos):
    ball = Ball("linf", 2 / 255)
    whole = apgd_ce(small_classifier, photos.pixels_BCHW, photos.label_B, ball, num_steps=10, index_B=photos.index_B)
    rows = torch.randperm(len(photos.label_B), generator=torch.Generator().manual_seed(1))
    parts = [
        apgd_ce(
            small_classifier, photos.pixels_BCHW[r], photos.label_B[r], ball, num_steps=10, index_B=photos.index_B[r]
        )
        for r in rows.split(33)
    ]
    assert (torch.cat([p.fooled_B for p in parts]) != whole.fooled_B[rows]).sum() <= 1


def test_dlr_is_invariant_to_shift_and_scale_and_is_minus_one_sided():
    logits = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label, target = logits.argmax(-1), logits.argmin(-1)
    value = dlr_targeted(logits, label, target)
    assert torch.allclose(value, dlr_targeted(3.7 * logits - 5, label, target))
    assert (value < 0).all()  # the label still wins
    assert (dlr_targeted(logits, target, label) > 0).all()


def test_the_label_is_no_target_of_its_own_where_classes_tie():
    """Sorted by hand in Python, where the label is removed by its number."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 3, (200, 7), generator=rng).float()
    label = torch.randint(0, 7, (200,), generator=rng)
    assert (logits.argsort(1, descending=True)[:, 1:] == label[:, None]).any()  # what the order alone would aim at
    for row, of_row, found in zip(logits.tolist(), label.tolist(), wrong_classes(logits, label).tolist(), strict=True):
        assert sorted(found) == [c for c in range(7) if c != of_row]
        assert [row[c] for c in found] == sorted((row[c] for c in range(7) if c != of_row), reverse=True)
    assert wrong_classes(logits[:0], label[:0]).shape == (0, 6)


def test_targeted_needs_four_classes(photos):
    with pytest.raises(SeaAnchorError, match="at least 4"):
        apgd_targeted(
            lambda p: p.mean((2, 3)), photos.pixels_BCHW, photos.label_B, Ball("linf", 0.01), index_B=photos.index_B
        )
