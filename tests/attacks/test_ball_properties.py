"""Projections onto balls, for any images: inside, idempotent, and nearest."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seaanchor.attacks.ball import Ball

quick = settings(derandomize=True, deadline=None, max_examples=60, database=None)
seeds = st.integers(0, 2**31)
radii = st.floats(0, 1, allow_subnormal=False)
norms = st.sampled_from(["linf", "l2"])


def draw(seed: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(2, 3, 4, 5, generator=rng, dtype=torch.float64)


@quick
@given(norms, radii, seeds, seeds)
def test_a_projection_is_inside_and_projecting_again_changes_nothing(norm, radius, seed, other):
    ball, clean, pixels = Ball(norm, radius), draw(seed), draw(other, -3, 4)
    found = ball.project(pixels, clean)
    assert found.min() >= 0 and found.max() <= 1
    assert (ball.distance(found, clean) <= radius + 1e-9).all()
    assert torch.allclose(ball.project(found, clean), found, atol=1e-9)
    assert torch.equal(ball.project(clean, clean).clamp(0, 1), ball.project(clean, clean))
    assert torch.allclose(ball.project(clean, clean), clean), "the clean image is inside"


@quick
@given(norms, st.floats(0, 0.3), seeds, seeds, seeds)
def test_no_point_of_the_ball_is_nearer(norm, radius, seed, other, third):
    """Far enough from 0 and 1 that clipping plays no part; the rival is any other point of the ball."""
    ball, clean, pixels = Ball(norm, radius), draw(seed, 0.4, 0.6), draw(other, -1, 2)
    found = ball.project(pixels, clean)
    noise = draw(third, -1, 1)
    size = noise.abs().amax((1, 2, 3)) if norm == "linf" else noise.flatten(1).norm(dim=1)
    rival = clean + radius * noise / size.view(-1, 1, 1, 1)
    assert (ball.distance(rival, clean) <= radius + 1e-9).all()
    gap = lambda x: (x - pixels).flatten(1).norm(dim=1)  # noqa: E731
    assert (gap(found) <= gap(rival) + 1e-9).all()


@quick
@given(radii, seeds, seeds)
def test_linf_is_the_nearest_number_of_each_interval(radius, seed, other):
    clean, pixels = draw(seed), draw(other, -3, 4)
    low, high = (clean - radius).clamp(min=0), (clean + radius).clamp(max=1)
    expected = torch.stack([low, pixels, high]).median(0).values
    assert torch.allclose(Ball("linf", radius).project(pixels, clean), expected, atol=1e-12)


@quick
@given(norms, radii, seeds, seeds)
def test_the_prepared_projection_is_the_same(norm, radius, seed, other):
    ball, clean, pixels = Ball(norm, radius), draw(seed), draw(other, -3, 4)
    assert torch.allclose(ball.projection(clean)(pixels.clone()), ball.project(pixels, clean), atol=1e-12)


@quick
@given(norms, radii, seeds, st.integers(0, 1000))
def test_random_starts_are_inside_and_belong_to_their_image(norm, radius, seed, number):
    ball, clean = Ball(norm, radius), draw(seed).float()
    index = torch.tensor([number, number + 7])
    both = ball.random_start(clean, index, torch.Generator().manual_seed(seed))
    assert both.min() >= 0 and both.max() <= 1 and (ball.distance(both, clean) <= radius * (1 + 1e-5) + 1e-6).all()
    alone = ball.random_start(clean[1:], index[1:], torch.Generator().manual_seed(seed))
    assert torch.allclose(alone, both[1:], atol=1e-6)


@quick
@given(norms, seeds)
def test_directions_have_unit_size_and_go_up(norm, seed):
    grad = draw(seed, -1, 1)
    direction = Ball(norm, 0.1).ascent_direction(grad)
    assert torch.allclose(Ball(norm, 0.1).distance(direction, torch.zeros_like(direction)), torch.ones(2).double())
    assert ((direction * grad).sum((1, 2, 3)) > 0).all()
    spread = Ball(norm, 0.1).spread(grad)
    assert torch.allclose(Ball(norm, 0.1).distance(spread, torch.zeros_like(spread)), torch.full((2,), 0.1).double())
