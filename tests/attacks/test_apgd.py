"""APGD's schedule and its edges."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seaanchor.attacks import apgd as algorithm
from seaanchor.attacks.apgd import apgd, begin, checkpoints, halve, look
from seaanchor.attacks.ball import Ball


def test_checkpoints_for_100_steps_are_the_papers():
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)


def test_empty_batch():
    empty = torch.zeros(0, 3, 4, 4)
    result = apgd(lambda p, row: (p.sum((1, 2, 3)), p), empty, empty, Ball("linf", 0.1), 3)
    assert len(result.fooled_B) == 0


@settings(derandomize=True, deadline=None, max_examples=200, database=None)
@given(st.integers(0, 2000))
def test_checks_come_closer_and_closer_and_end_in_time(num_steps):
    steps = checkpoints(num_steps)
    gaps = [b - a for a, b in itertools.pairwise((0, *steps))]
    assert all(1 <= step <= num_steps for step in steps) and list(steps) == sorted(set(steps))
    assert all(later <= earlier for earlier, later in itertools.pairwise(gaps))
    smallest = max(int(0.06 * num_steps), 1)
    assert not gaps or (gaps[0] == max(int(0.22 * num_steps), 1) and min(gaps) >= smallest)
    assert not gaps or num_steps - steps[-1] < max(gaps[-1], smallest), "no check is left out at the end"


@settings(derandomize=True, deadline=None, max_examples=25, database=None)
@given(st.integers(1, 30), st.integers(0, 2**31), st.floats(0.01, 0.4))
def test_more_looks_never_end_lower_than_the_start(num_steps, seed, radius):
    """On any quadratic, the best point found is at least as high as the start, legal, and reported truly."""
    rng = torch.Generator().manual_seed(seed)
    clean, weight = torch.rand(3, 1, 3, 3, generator=rng), torch.randn(1, 3, 3, generator=rng)

    def loss(pixels, row):
        value = (weight * pixels).sum((1, 2, 3)) - (pixels - 0.5).square().sum((1, 2, 3))
        return value, pixels

    ball = Ball("linf", radius)
    start = ball.project(clean + radius * (2 * torch.rand(clean.shape, generator=rng) - 1), clean)
    found = apgd(loss, clean, start, ball, num_steps).pixels_BCHW
    assert (loss(found, None)[0] >= loss(start, None)[0] - 1e-6).all()
    assert (ball.distance(found, clean) <= radius + 1e-6).all() and found.min() >= 0 and found.max() <= 1


def test_a_loss_that_stays_where_it_is_has_not_increased():
    """On a plateau no step counts as an increase, so that the step size is halved at the first check."""
    clean = torch.full((2, 1, 2, 2), 0.5)
    state, _ = begin(lambda p, row: (0 * p.sum((1, 2, 3)), p), clean, clean, Ball("linf", 0.1))
    for _ in range(4):
        state = look(state, torch.zeros(2), torch.zeros_like(clean))
    before = state.step_size.clone()
    assert torch.equal(halve(state, 4).step_size, before / 2)
    rising = look(state, torch.full((2,), 2.0), torch.zeros_like(clean))
    assert rising.increases.tolist() == [1.0, 1.0] and rising.best_loss.tolist() == [2.0, 2.0]


def test_the_step_size_is_reconsidered_over_the_steps_since_the_last_time(monkeypatch):
    gaps = []
    monkeypatch.setattr(algorithm, "halve", lambda state, gap: gaps.append(gap) or halve(state, gap))
    clean = torch.full((1, 1, 2, 2), 0.5)
    apgd(lambda p, row: (p.sum((1, 2, 3)), p), clean, clean, Ball("linf", 0.1), 100)
    assert gaps == [22, 19, 16, 13, 10, 7, 6, 6]
