"""Gradients to the pixels, and a model that nothing of it reaches."""

import pytest
import torch
from torch import nn

from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import attackable, frozen, input_grad, linked, pixels_alone, reaching


def test_input_grad_is_each_samples_own_gradient():
    pixels = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    loss_B, grad, output = input_grad(lambda p: (p.pow(3).sum((1, 2, 3)), p * 2), pixels)
    assert torch.allclose(grad, 3 * pixels**2)
    assert torch.allclose(loss_B, pixels.pow(3).sum((1, 2, 3)))
    assert not grad.requires_grad and not output.requires_grad and not pixels.requires_grad


def test_input_grad_works_where_gradients_are_off_and_leaves_the_weights_alone():
    layer, pixels = nn.Linear(4, 1), torch.rand(2, 1, 2, 2)
    with torch.no_grad():
        _, grad, _ = input_grad(lambda p: (layer(p.flatten(1)).squeeze(1), p), pixels)
    assert torch.allclose(grad.flatten(1), layer.weight.expand(2, -1)) and layer.weight.grad is None


def test_frozen_restores_what_asked_for_gradients_and_nothing_else():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].bias.requires_grad_(False)
    with pytest.raises(RuntimeError), frozen(model) as inside:
        assert inside is model and not any(p.requires_grad for p in model.parameters())
        raise RuntimeError
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]


def test_attackable_restores_the_mode_of_every_layer():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Linear(2, 2)).train()
    model[1].eval()
    with pytest.raises(RuntimeError), attackable(model):
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        raise RuntimeError
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert all(p.requires_grad for p in model.parameters())
    with attackable(lambda pixels: pixels):
        pass


def test_pixels_alone_gives_the_same_numbers_and_reaches_no_weight():
    layer, pixels = nn.Linear(4, 3), torch.rand(2, 4)
    plain, alone = pixels.clone().requires_grad_(), pixels.clone().requires_grad_()
    expected = layer(plain)
    found = pixels_alone(layer)(alone)
    assert torch.equal(found, expected)
    (wanted,) = torch.autograd.grad(expected[:, 1].sum(), plain)
    for _ in range(2):  # a graph that is asked more than once
        alone.grad = None
        found[:, 1].sum().backward(retain_graph=True)
        assert torch.equal(alone.grad, wanted)
    assert all(p.grad is None for p in layer.parameters())
    with torch.no_grad():
        assert not pixels_alone(layer)(pixels).requires_grad
    assert not pixels_alone(layer)(pixels).requires_grad, "pixels that ask for no gradient"


def test_a_constant_has_no_gradient():
    """Torch would raise its own error in the first step of an attack."""
    pixels = torch.rand(2, 3, 4, 4)
    with pytest.raises(SeaAnchorError, match="does not depend on the pixels"):
        input_grad(lambda p: (torch.ones(2), torch.ones(2, 5)), pixels)
    constant = nn.Sequential(nn.Flatten(), Constant())
    with reaching(constant):
        _, grad, output = input_grad(lambda p: (constant(p).sum(1), constant(p)), pixels)
    assert grad.abs().max() == 0 and torch.equal(output, torch.ones(2, 5))


class Constant(nn.Module):
    """1, whatever comes."""

    def forward(self, x):
        """(B, 5)."""
        return torch.ones(len(x), 5)


def test_what_has_a_gradient_is_left_alone():
    pixels = torch.rand(2, 3, 4, 4, requires_grad=True)
    output = 2 * pixels.flatten(1)
    assert linked(output, pixels) is output
