"""Scales of batch normalisation in the convolutions before it: the same tower, with steps of one size."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import dpo_linear, fare
from seaanchor.config.validation import check
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.encoders.norm_scales import fold_norm_scales
from seaanchor.errors import SeaAnchorError
from seaanchor.training.setup import prepare
from seaanchor.training.start import load_start


def with_scales(architecture: str) -> Encoder:
    """A tower whose normalisations have scales between a tenth and fifty, as trained ones have; some negative."""
    torch.manual_seed(0)
    tower = timm.create_model(architecture, num_classes=0).eval()
    for layer in tower.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.5)
            nn.init.normal_(layer.bias, 0, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.0, 0.5)
    return Encoder(tower, 32, (0.5,) * 3, (0.5,) * 3).double()


def norms(encoder):
    return [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_resnet"])
def test_a_folded_tower_answers_as_before_and_moves_as_far_as_its_rate_says(architecture):
    encoder = with_scales(architecture)
    before = copy.deepcopy(encoder)
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    folded = fold_norm_scales(encoder)
    torch.testing.assert_close(encoder(pixels), before(pixels), rtol=1e-9, atol=1e-12)
    assert folded == len(norms(encoder)) > 3
    assert {k: v.shape for k, v in encoder.state_dict().items()} == {k: v.shape for k, v in before.state_dict().items()}
    for norm in norms(encoder):  # the constant that multiplies a step of the convolution's weights
        torch.testing.assert_close(norm.weight / (norm.running_var + norm.eps).sqrt(), torch.ones_like(norm.weight))


def test_a_run_folds_before_it_keeps_the_reference_and_exports_the_same_architecture(tiny_run):
    config = replace(tiny_run(fare()), model="seaanchor-tiny", fold_norms=True, max_steps=1, lr=1e-9)
    setup = prepare(config)
    assert all(bool((norm.weight == 1).all()) for norm in norms(setup.policy))
    assert all(bool((norm.weight == 1).all()) for norm in norms(setup.reference))
    train(config)
    exported, before = load_model(str(config.output / "export")).encoder, load_start(config.output).encoder
    assert all(bool((norm.weight - 1).abs().max() < 1e-6) for norm in norms(exported))
    pixels = torch.rand(4, 3, before.image_size, before.image_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(exported(pixels), before(pixels), rtol=1e-4, atol=1e-5)


def test_what_has_no_scales_to_fold_is_told(tiny_run, capsys):
    setup = prepare(replace(tiny_run(fare()), fold_norms=True))
    assert "fold_norms changes nothing: no batch normalisation follows a convolution" in capsys.readouterr().err
    before = load_model(setup.config.model).encoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in setup.policy.state_dict().items())
    with pytest.raises(SeaAnchorError, match="linear with fold_norms"):
        check(replace(tiny_run(dpo_linear()), fold_norms=True))
