"""PGD: closed form on a linear model, agreement with AutoAttack's APGD, and what an attack must never do."""

from itertools import pairwise

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.pgd import pgd, pgd_attack
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import input_grad


def test_long_pgd_and_autoattacks_apgd_agree_on_robust_accuracy(small_classifier, photos):
    rows = (small_classifier(photos.pixels_BCHW).argmax(-1) == photos.label_B).nonzero().squeeze(1)
    pixels, labels = photos.pixels_BCHW[rows], photos.label_B[rows]
    for epsilon in (1 / 255, 2 / 255, 4 / 255):
        peer = APGDAttack(small_classifier, n_iter=50, norm="Linf", eps=epsilon, seed=0, loss="ce", device="cpu")
        theirs = small_classifier(peer.perturb(pixels, labels)).argmax(-1) != labels
        ours = pgd_attack(
            small_classifier, pixels, labels, Ball("linf", epsilon), num_steps=50, step_size=epsilon / 10, index_B=rows
        )
        assert (ours.fooled_B != theirs).sum() <= 2
        assert torch.equal(ours.fooled_B, small_classifier(ours.pixels_BCHW).argmax(-1) != labels)


def test_more_steps_are_never_weaker(small_classifier, photos):
    fooled = [
        pgd_attack(
            small_classifier,
            photos.pixels_BCHW,
            photos.label_B,
            Ball("linf", 3 / 255),
            num_steps=n,
            index_B=photos.index_B,
        ).fooled_B
        for n in (0, 1, 3, 10)
    ]
    for fewer, more in pairwise(fooled):
        assert not (fewer & ~more).any()  # the steps taken are the same, so whoever was fooled stays fooled


def test_an_attack_leaves_no_gradient_on_the_weights(small_classifier, photos):
    small_classifier.requires_grad_(True)
    input_grad(lambda p: (small_classifier(p).sum(-1), p), photos.pixels_BCHW)
    pgd_attack(
        small_classifier, photos.pixels_BCHW, photos.label_B, Ball("linf", 0.01), num_steps=2, index_B=photos.index_B
    )
    assert all(p.grad is None for p in small_classifier.parameters())
    small_classifier.requires_grad_(False)


def test_random_start_fills_the_ball():
    rng = torch.Generator().manual_seed(0)
    clean = torch.full((400, 3, 4, 4), 0.5)
    linf = Ball("linf", 0.1).random_start(clean, torch.arange(400), rng) - clean
    assert linf.abs().max() <= 0.1 + 1e-6 and abs(linf.abs().mean().item() - 0.05) < 2e-3
    l2 = Ball("l2", 0.1).random_start(clean, torch.arange(400), rng) - clean
    radii = l2.flatten(1).norm(dim=1)
    assert radii.max() <= 0.1 + 1e-6 and abs(radii.mean().item() - 0.1 * 48 / 49) < 1e-3


def test_radius_given_in_255ths_is_asked_about_not_guessed():
    with pytest.raises(SeaAnchorError, match="did you mean 4/255"):
        Ball("linf", 4)
    Ball("l2", 4)  # in l2 a radius above 1 is ordinary
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(SeaAnchorError):
            Ball("l2", bad)
    with pytest.raises(SeaAnchorError, match="linf or l2"):
        Ball("l1", 0.1)


def test_a_step_is_a_quarter_of_the_radius_unless_it_is_said():
    """On a linear loss, from the clean image: two steps of ε/4 are ε/2, and one of ε/10 is that."""
    clean = torch.full((1, 3, 2, 2), 0.5)

    def loss(pixels):
        return pixels.sum((1, 2, 3)), pixels

    for norm, size in (("linf", 1.0), ("l2", 12**-0.5)):
        two = pgd(loss, clean, clean, Ball(norm, 0.2), num_steps=2) - clean
        one = pgd(loss, clean, clean, Ball(norm, 0.2), num_steps=1, step_size=0.02) - clean
        assert torch.allclose(two, torch.full_like(two, 0.1 * size), atol=1e-6)
        assert torch.allclose(one, torch.full_like(one, 0.02 * size), atol=1e-6)
