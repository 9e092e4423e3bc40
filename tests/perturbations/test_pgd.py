"""PGD in training: closed form on a linear loss, and one step by hand."""

import pytest
import torch

from seaanchor.attacks.ball import Ball
from seaanchor.perturbations.pgd import PGD
from seaanchor.types import Batch


def linear_loss(weight):
    return lambda pixels: ((pixels * weight).sum((1, 2, 3)), pixels)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_linf_optimum_of_a_linear_loss(momentum):
    weight = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.full((2, 3, 4, 4), 0.5), None, torch.arange(2))
    attacked = PGD(Ball("linf", 0.1), num_steps=10, momentum=momentum)(
        batch, lambda _: linear_loss(weight), torch.Generator().manual_seed(0)
    )
    assert torch.allclose(attacked.pixels_BCHW, 0.5 + 0.1 * weight.sign().expand(2, -1, -1, -1))


def test_l2_optimum_of_a_linear_loss():
    weight = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.full((2, 3, 4, 4), 0.5), None, torch.arange(2))
    attacked = PGD(Ball("l2", 0.3), num_steps=200)(
        batch, lambda _: linear_loss(weight), torch.Generator().manual_seed(0)
    )
    assert torch.allclose(attacked.pixels_BCHW, (0.5 + 0.3 * weight / weight.norm()).expand(2, -1, -1, -1), atol=2e-2)


@pytest.mark.parametrize("num_steps", [0, 1, 7])
def test_exactly_num_steps_gradients(num_steps):
    passes = []

    def loss(pixels):
        passes.append(1)
        return pixels.sum((1, 2, 3)), pixels

    PGD(Ball("linf", 0.1), num_steps=num_steps)(
        Batch(torch.rand(2, 3, 4, 4), None, torch.arange(2)), lambda _: loss, torch.Generator()
    )
    assert len(passes) == num_steps


def test_one_step_by_hand():
    batch = Batch(torch.tensor([0.5, 0.01, 0.99]).view(1, 3, 1, 1), None, torch.arange(1))
    weight = torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1)
    attacked = PGD(Ball("linf", 0.1), num_steps=1, step_size=0.06, random_start=False)(
        batch, lambda _: linear_loss(weight), torch.Generator()
    )
    assert torch.allclose(attacked.pixels_BCHW.flatten(), torch.tensor([0.56, 0.0, 1.0]))
