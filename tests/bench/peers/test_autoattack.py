"""The peer's random starts are drawn as the package draws them, so that ours begins at the same points."""

import pytest
import torch

from bench.peers import autoattack
from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball

pytest.importorskip("pyautoattack")
EPSILON = 4 / 255


@pytest.fixture
def seen(small_classifier, photos):
    """A classifier that notes what it is shown, and photos that it gets right."""
    shown = []

    def logits(pixels):
        shown.append(pixels.detach().clone())
        return small_classifier(pixels)

    rows = (small_classifier(photos.pixels_BCHW).argmax(-1) == photos.label_B).nonzero().squeeze(1)[:60]
    return logits, shown, photos.pixels_BCHW[rows], photos.label_B[rows]


def test_the_package_begins_where_the_peer_says(seen):
    logits, shown, pixels, labels = seen
    autoattack.apgd_ce(logits, pixels, labels, EPSILON, 1, seed=3)
    begun = autoattack.start(pixels, EPSILON, seed=3).clamp(0, 1)
    assert torch.equal(shown[1], begun)  # after the clean look
    assert not torch.equal(autoattack.start(pixels, EPSILON, seed=4).clamp(0, 1), begun)


def test_the_targeted_attack_begins_there_for_every_target(seen):
    logits, shown, pixels, labels = seen
    autoattack.apgd_targeted(logits, pixels, labels, EPSILON, 1)
    draw = autoattack.starts(pixels, EPSILON)
    standing = torch.arange(len(labels))
    for target in range(3):
        _, begun = shown[
            1 + 3 * target : 3 + 3 * target
        ]  # the likeliest classes are looked up, then the attack begins and moves once
        assert torch.equal(begun, draw(target, standing).clamp(0, 1))
        moved = shown[3 + 3 * target]
        with torch.no_grad():
            left = torch.stack([logits(x).argmax(-1) == labels[standing] for x in (begun, moved)]).all(0)
        del shown[-2:]
        standing = standing[left]


def test_drawing_leaves_the_global_generator_alone(seen):
    pixels = seen[2]
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    draw = autoattack.starts(pixels, EPSILON)
    draw(0, torch.arange(4)), draw(1, torch.arange(2)), autoattack.start(pixels, EPSILON)
    assert torch.equal(torch.rand(3), wanted)


def test_both_fool_the_same_images(seen):
    logits, _, pixels, labels = seen
    theirs = autoattack.apgd_ce(logits, pixels, labels, EPSILON, 10)
    begin = autoattack.start(pixels, EPSILON)
    ours = apgd_ce(logits, pixels, labels, Ball("linf", EPSILON), num_steps=10, index_B=labels, start_BCHW=begin)
    assert 5 < theirs.sum() < len(theirs) - 5
    assert (ours.fooled_B != theirs).sum() <= 1
    theirs = autoattack.apgd_targeted(logits, pixels, labels, EPSILON, 5)
    begin = autoattack.starts(pixels, EPSILON)
    ours = apgd_targeted(logits, pixels, labels, Ball("linf", EPSILON), num_steps=5, index_B=labels, starts=begin)
    assert (ours.fooled_B != theirs).sum() <= 1


def test_double_images_stay_double_only_inside(seen):
    double = seen[2].double()
    with autoattack.in_double():
        assert double.float().dtype == torch.float64
        assert torch.ones(1, dtype=torch.int64).float().dtype == torch.float32
    assert double.float().dtype == torch.float32
