"""Accuracies against hand counts, and independence of everything that must not matter."""

import itertools
import weakref
from dataclasses import replace

import pytest
import torch

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult, noise_per_image
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation import attacks
from seaanchor.evaluation.attacks import AttackPlan, attack_survivors, fallback
from seaanchor.evaluation.zeroshot import evaluate_stream
from seaanchor.types import Batch

EPSILONS = (1 / 255, 4 / 255, 8 / 255)
PLANS = tuple(AttackPlan(name, "linf", EPSILONS, 5) for name in ("pgd", "apgd-ce", "apgd"))


def cut(batch: Batch, size: int) -> list[Batch]:
    """The batch in pieces."""
    return [
        Batch(batch.pixels_BCHW[i : i + size], batch.label_B[i : i + size], batch.index_B[i : i + size])
        for i in range(0, len(batch.index_B), size)
    ]


def fooling(fooled):
    """An attack that changes nothing and claims to have fooled `fooled(pixels, ball, num_steps, index)`."""
    return lambda logits, pixels, label, ball, *, num_steps, index_B, seed: AttackResult(
        pixels, fooled(pixels, ball, num_steps, index_B)
    )


@pytest.fixture(scope="module")
def some(photos) -> Batch:
    return Batch(photos.pixels_BCHW[::3], photos.label_B[::3], photos.index_B[::3])


@pytest.fixture(scope="module")
def outcomes(small_classifier, some):
    return evaluate_stream(small_classifier, cut(some, 67), PLANS)


def test_accuracy_by_hand():
    """Four images whose logits are written down: the first, third and fourth are right; the second's class is second
    likeliest of six, and fifth when all signs are turned."""
    table = torch.tensor(
        [[9, 1, 2, 3, 4, 5], [0, 1, 7, 9, 8, 2], [0, 0, 9, 1, 1, 1], [0, 9, 1, 2, 3, 4]], dtype=torch.float
    )
    label = torch.tensor([0, 4, 2, 1])
    batch = Batch(torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 2) / 4, label, torch.arange(4))
    result = evaluate_stream(lambda pixels: table[(4 * pixels[:, 0, 0, 0]).long()], cut(batch, 3), ())
    assert result.clean_N.tolist() == [True, False, True, True]
    assert result.top5_N.tolist() == [True, True, True, True]
    assert result.index_N.tolist() == [0, 1, 2, 3]
    worst = evaluate_stream(lambda pixels: -table[(4 * pixels[:, 0, 0, 0]).long()], cut(batch, 3), ())
    assert worst.top5_N.tolist() == [False, True, False, False]


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.exhaustive), 7, 30])
def test_batch_size_changes_no_outcome(small_classifier, some, outcomes, size):
    other = evaluate_stream(small_classifier, cut(some, size), PLANS)
    assert torch.equal(other.clean_N, outcomes.clean_N)
    for key, correct in outcomes.attacked.items():
        assert torch.equal(other.attacked[key], correct), key
    assert all(sound.all() for sound in outcomes.sound.values())


def test_attacks_bite_and_leave_something_standing(outcomes):
    clean = int(outcomes.clean_N.sum())
    for plan in PLANS:
        counts = [int(outcomes.attacked[plan, e].sum()) for e in EPSILONS]
        assert clean >= counts[0] > counts[1] > counts[2]


def test_survivors_are_cumulative_over_epsilon_in_any_order(small_classifier, some, outcomes):
    for plan in PLANS:
        standing = [outcomes.clean_N, *(outcomes.attacked[plan, e] for e in EPSILONS)]
        for smaller, larger in itertools.pairwise(standing):
            assert not (larger & ~smaller).any()
    turned = replace(PLANS[0], epsilons=EPSILONS[::-1])
    backwards = evaluate_stream(small_classifier, cut(some, 67), (turned,))
    for epsilon in EPSILONS:
        assert torch.equal(backwards.attacked[turned, epsilon], outcomes.attacked[PLANS[0], epsilon])


def test_an_image_fooled_at_a_small_radius_stays_fooled(small_classifier, some, monkeypatch):
    """Even by an attack that fails at the larger one."""
    once = fooling(lambda pixels, ball, steps, index: torch.full((len(pixels),), 0 < ball.epsilon < 2 / 255))
    monkeypatch.setitem(attacks.STAGES, "pgd", (once,))
    result = evaluate_stream(small_classifier, [some], PLANS[:1])
    assert not any(result.attacked[PLANS[0], epsilon].any() for epsilon in EPSILONS)


def test_the_targeted_stage_only_takes_from_apgd_ce(outcomes):
    for epsilon in EPSILONS:
        assert not (outcomes.attacked[PLANS[2], epsilon] & ~outcomes.attacked[PLANS[1], epsilon]).any()


def test_survivors_of_the_first_stage_are_taken_over_and_change_nothing(small_classifier, some, outcomes, monkeypatch):
    alone = evaluate_stream(small_classifier, cut(some, 67), PLANS[2:])
    for epsilon in EPSILONS:
        assert torch.equal(alone.attacked[PLANS[2], epsilon], outcomes.attacked[PLANS[2], epsilon])
    begun = []
    count = lambda *a, **k: begun.append(1) or attacks.apgd_ce(*a, **k)  # noqa: E731
    monkeypatch.setitem(attacks.STAGES, "apgd-ce", (count,))
    monkeypatch.setitem(attacks.STAGES, "apgd", (count, attacks.apgd_targeted))
    evaluate_stream(small_classifier, [some], PLANS[1:])
    assert len(begun) == len(EPSILONS)
    begun.clear()
    evaluate_stream(small_classifier, [some], (PLANS[1], replace(PLANS[2], num_steps=6)))
    assert len(begun) == 2 * len(EPSILONS)


def test_fooled_images_are_not_attacked_again(small_classifier, some):
    """What an attack leaves standing is all that the next radius looks at."""
    standing = torch.zeros(len(some.index_B), dtype=torch.bool)
    standing[3] = True
    seen = []

    def logits(pixels):
        seen.append(len(pixels))
        return small_classifier(pixels)

    attack_survivors(logits, some, standing, PLANS[0], 4 / 255)
    assert set(seen) == {1}


def test_only_one_batch_is_held_at_a_time(small_classifier, some):
    alive = weakref.WeakSet()
    most = 0

    class Pixels(torch.Tensor):
        """A tensor that can be counted."""

    def stream():
        nonlocal most
        for batch in cut(some, 20):
            pixels = batch.pixels_BCHW.clone().as_subclass(Pixels)
            alive.add(pixels)
            yield Batch(pixels, batch.label_B, batch.index_B)
            del pixels
            most = max(most, len(alive))

    evaluate_stream(lambda p: small_classifier(p.as_subclass(torch.Tensor)), stream(), ())
    assert most == 1


def test_empty_and_unlabelled_batches_are_left_out(small_classifier, some):
    nothing = Batch(torch.empty(0, 3, 16, 16), torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long))
    result = evaluate_stream(small_classifier, [nothing, *cut(some, 40), nothing], PLANS[:1])
    assert len(result.clean_N) == len(some.index_B)
    with pytest.raises(SeaAnchorError, match="no labelled image could be read"):
        evaluate_stream(small_classifier, [nothing, replace(some, label_B=None)], ())


@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_few_classes_fall_back_to_cross_entropy(small_classifier, some, num_classes, monkeypatch):
    rows = some.label_B < num_classes
    few = Batch(some.pixels_BCHW[rows], some.label_B[rows], some.index_B[rows])
    called = []
    targeted = lambda *a, **k: called.append(1) or AttackResult(a[1], torch.zeros(len(a[1]), dtype=torch.bool))  # noqa: E731
    monkeypatch.setattr(attacks, "apgd_targeted", targeted)
    monkeypatch.setitem(attacks.STAGES, "apgd", (attacks.apgd_ce, targeted))
    evaluate_stream(
        lambda pixels: small_classifier(pixels)[:, :num_classes], [few], (AttackPlan("apgd", "linf", (0.5 / 255,), 2),)
    )
    assert bool(called) == (num_classes >= 4)
    note = fallback(PLANS[2], num_classes)
    assert note is None if num_classes >= 4 else f"here are {num_classes}" in note
    assert fallback(PLANS[0], num_classes) is None


def test_starts_belong_to_the_image():
    pixels = torch.rand(4, 3, 8, 8)
    for norm in ("linf", "l2"):
        ball = Ball(norm, 0.1)
        index = torch.tensor([5, 2, 9, 2])
        noise = noise_per_image(index, 0, ball, pixels)
        assert torch.equal(noise[1], noise[3])
        assert not torch.equal(noise[0], noise[1])
        assert torch.equal(noise_per_image(index[[2, 0]], 0, ball, pixels[:2]), noise[[2, 0]])
        assert not torch.equal(noise_per_image(index, 1, ball, pixels), noise)
        assert noise.mean().abs() < 0.1
    assert noise_per_image(index, 0, Ball("linf", 0.1), pixels).abs().max() <= 1
