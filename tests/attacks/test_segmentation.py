"""The attack on pixels' cross-entropy against what can be computed in closed form."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.segmentation import higher, pixel_attack, pixel_loss
from seaanchor.types import Batch

VOID = 255


def linear(pixels):
    """Two classes a pixel, told apart by 3·red − 2·blue."""
    score = 3 * pixels[:, 0] - 2 * pixels[:, 2]
    return torch.stack([score, -score], 1)


def greys(count=4):
    pixels = 0.3 + 0.4 * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.randint(2, (count, 4, 4), generator=torch.Generator().manual_seed(1))
    mask[:, 0, :2] = VOID
    return Batch(pixels, None, torch.arange(count)), mask


def test_the_loss_is_a_mean_over_pixels_with_a_class():
    batch, mask = greys()
    logits = linear(batch.pixels_BCHW)
    theirs = torch.stack(
        [F.cross_entropy(one[None], other[None], ignore_index=VOID) for one, other in zip(logits, mask, strict=True)]
    )
    assert torch.allclose(pixel_loss(logits, mask, VOID), theirs)
    assert pixel_loss(logits, torch.full_like(mask, VOID), VOID).tolist() == [0, 0, 0, 0]


def test_a_pixel_answered_with_certainty_keeps_a_gradient():
    """Plain cross-entropy of a gap of 500 has none, so that an attack would stand still."""
    logits = torch.tensor([[500.0, 0.0]]).view(1, 2, 1, 1).requires_grad_()
    pixel_loss(logits, torch.zeros(1, 1, 1, dtype=torch.long), 255).sum().backward()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]
    dead = torch.tensor([[500.0, 0.0]]).view(1, 2, 1, 1).requires_grad_()
    F.cross_entropy(dead, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
    assert not dead.grad.any()


def test_it_reaches_the_optimum_of_a_linear_model():
    batch, mask = greys()
    epsilon = 0.05
    found = pixel_attack(linear, batch, mask, Ball("linf", epsilon), num_steps=30)
    side = torch.where(mask == 0, -1.0, 1.0) * (mask != VOID)
    best = batch.pixels_BCHW.clone()
    best[:, 0] += epsilon * side
    best[:, 2] -= epsilon * side
    assert torch.allclose(pixel_loss(linear(found), mask, VOID), pixel_loss(linear(best), mask, VOID), rtol=1e-4)
    assert (found - batch.pixels_BCHW).abs().max() <= epsilon + 1e-6


def test_batches_change_nothing_and_radius_0_neither():
    torch.manual_seed(0)
    model = nn.Conv2d(3, 3, 3, padding=1).requires_grad_(False)
    batch, mask = greys()
    whole = pixel_attack(model, batch, mask, Ball("linf", 0.03), num_steps=5)
    halves = [
        pixel_attack(
            model,
            Batch(batch.pixels_BCHW[rows], None, batch.index_B[rows]),
            mask[rows],
            Ball("linf", 0.03),
            num_steps=5,
        )
        for rows in (slice(0, 1), slice(1, 4))
    ]
    assert torch.allclose(whole, torch.cat(halves), atol=1e-6)
    assert torch.equal(pixel_attack(model, batch, mask, Ball("linf", 0.0), num_steps=2), batch.pixels_BCHW)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_more_steps_raise_the_loss(norm):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 2, 1)).requires_grad_(False)
    model[0].weight *= 30  # or the first step of APGD would reach the corner of the ball at once
    batch, mask = greys()
    ball = Ball(norm, 0.05 if norm == "linf" else 0.3)
    losses = [pixel_loss(model(pixel_attack(model, batch, mask, ball, num_steps=n)), mask, VOID) for n in (1, 20)]
    assert (losses[1] >= losses[0]).all() and losses[1].mean() > 1.01 * losses[0].mean()


def test_the_higher_of_two():
    one, other = torch.zeros(3, 1, 1, 1), torch.ones(3, 1, 1, 1)
    assert higher(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 1.0]), one, other).flatten().tolist() == [
        1,
        0,
        0,
    ]
