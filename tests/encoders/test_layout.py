"""Towers lie in memory as their layers need it. No test here runs a layer that overruns in the layout that it does so
in: that would end the process."""

import copy

import pytest
import torch
from torch import nn

from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.frozen_copies import folded
from seaanchor.encoders.layout import layout_of, overruns
from seaanchor.encoders.load import load_model
from seaanchor.encoders.low_precision import LowPrecisionCopy

CONTIGUOUS = ("repvgg_a0", "mobileone_s0", "fastvit_t8")


def wide_kernels(module: nn.Module) -> list[torch.Tensor]:
    """Weights whose strides tell the layout: of a 1 × 1 kernel or of one channel they fit both."""
    return [w for w in module.parameters() if w.dim() == 4 and w.shape[1] > 1 and w.shape[2] > 1]


def tower(name: str) -> Encoder:
    torch.manual_seed(0)
    return load_model(f"timm:{name}", "none", 64).encoder


@pytest.mark.parametrize("name", CONTIGUOUS)
def test_towers_with_a_layer_that_overruns_stay_contiguous_and_train_a_step(name):
    encoder = tower(name)
    assert any(overruns(layer) for layer in encoder.modules() if isinstance(layer, nn.Conv2d))
    for laid_out in (encoder, copy.deepcopy(encoder), folded(encoder.eval()), LowPrecisionCopy(encoder).encoder):
        assert wide_kernels(laid_out) and all(w.is_contiguous() for w in wide_kernels(laid_out))
    seen = []
    encoder.tower.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].is_contiguous()))
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        encoder(pixels)
    assert seen == [True]  # so that the step below is safe
    exact = copy.deepcopy(encoder.requires_grad_()).double().train()
    for module, given in ((encoder.train(), pixels), (exact, pixels.double())):
        module(given).square().sum().backward()
    for (key, found), wanted in zip(encoder.named_parameters(), exact.parameters(), strict=True):
        error = (found.grad.double() - wanted.grad).norm() / wanted.grad.norm().clamp_min(1e-12)
        assert error < 1e-3, key


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_other_convolutional_towers_stay_channels_last(name):
    encoder = tower(name)
    for laid_out in (encoder, folded(encoder.eval()), LowPrecisionCopy(encoder).encoder):
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in wide_kernels(laid_out))
    assert not all(w.is_contiguous() for w in wide_kernels(encoder))


def test_a_users_own_tower_is_laid_out_by_the_same_rule():
    layers = nn.Conv2d(3, 8, 1, 2), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    module = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    assert all(w.is_contiguous() for w in wide_kernels(Encoder(module, 32)))
    alone = nn.Sequential(nn.Conv2d(3, 8, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert layout_of(alone) is torch.contiguous_format  # not even where it is the only convolution


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (nn.Conv2d(3, 48, 1, 2), True),
        (nn.Conv2d(15, 48, 1, (1, 2)), True),
        (nn.Conv2d(16, 48, 1, 2), False),
        (nn.Conv2d(3, 48, 1), False),
        (nn.Conv2d(3, 48, 3, 2), False),
        (nn.Conv2d(48, 48, 1, 2, groups=48), False),
    ],
)
def test_which_layers_overrun(layer, found):
    """As found by running each kind alone under a checking allocator."""
    assert overruns(layer) == found
