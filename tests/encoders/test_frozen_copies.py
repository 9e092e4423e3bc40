"""Copies for attacks: folded they say the same, in low precision nearly the same."""

from pathlib import Path

import pytest
import torch
from torch import nn

from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.frozen_copies import folded, in_precision
from seaanchor.encoders.load import load_model
from seaanchor.functional.gradients import input_grad

MODELS = Path(__file__).parents[2] / "models"


class Shared(nn.Module):
    """Batch normalisation that takes a convolution's output, which is used a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return (self.norm(y) + y).mean((2, 3))


class Plain(Shared):
    """The same without the second use."""

    def forward(self, x):
        return self.norm(self.conv(x)).relu().mean((2, 3))


class Twice(Shared):
    """A convolution that is called twice, before the norm and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(self.conv(x))).mean((2, 3))


def encoder_of(tower: nn.Module) -> Encoder:
    torch.manual_seed(0)
    for norm in (m for m in tower.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return Encoder(tower, 12, 4, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)).eval()


@pytest.fixture(scope="module")
def encoder():
    return load_model(str(MODELS / "seaanchor-tiny-lore")).encoder.eval()


@pytest.fixture(scope="module")
def pixels():
    return torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_the_folded_tower_says_the_same_and_has_no_norm_left(encoder, pixels):
    before = fingerprint(encoder)
    short = folded(encoder)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in short.modules())
    assert not any(p.requires_grad for p in short.parameters())
    wanted, got = encoder(pixels), short(pixels)
    assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert fingerprint(encoder) == before and fingerprint(short) != before


def test_its_gradients_are_the_same():
    """In double precision: in single, a rounding error may open or close a ReLU."""

    def norm_of(tower):
        return lambda p: (tower(p).square().sum(-1), p)

    plain = load_model(str(MODELS / "seaanchor-tiny-lore")).encoder.eval().double()
    pixels = torch.rand(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    short = folded(plain)
    assert short is not plain
    wanted, got = (input_grad(norm_of(tower), pixels)[1] for tower in (plain, short))
    assert (got - wanted).abs().max() < 1e-10 * wanted.abs().max()


def test_conv_and_norm_alone_are_folded():
    plain = encoder_of(Plain())
    short = folded(plain)
    pixels = torch.rand(4, 3, 12, 12)
    assert short is not plain
    assert (short(pixels) - plain(pixels)).abs().max() < 1e-5


@pytest.mark.parametrize("tower", [Shared, Twice])
def test_where_folding_would_change_the_answer_the_encoder_stays(tower):
    encoder = encoder_of(tower())
    assert folded(encoder) is encoder


def test_nothing_to_fold_copies_nothing():
    encoder = encoder_of(nn.Sequential(nn.Conv2d(3, 4, 12), nn.GELU(), nn.Flatten()))
    assert folded(encoder) is encoder


def test_a_norm_without_running_statistics_stays():
    tower = Plain()
    tower.norm = nn.BatchNorm2d(4, track_running_stats=False)
    encoder = Encoder(tower, 12, 4, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)).eval()
    assert folded(encoder) is encoder


def test_low_precision_follows_the_tower(encoder, pixels):
    before = fingerprint(encoder)
    low = in_precision(encoder, torch.bfloat16)
    wanted, got = encoder(pixels), low(pixels)
    assert got.dtype == torch.float32 and fingerprint(encoder) == before
    assert 0 < (got - wanted).abs().max() < 0.02 * wanted.abs().max()
    step = torch.full_like(pixels, 1 / 255)  # pixels near 1.0 still tell one step from another
    bright = torch.ones_like(pixels) - step
    assert (low(bright) - low(bright + step)).abs().max() > 0


def test_a_transformer_in_low_precision_is_fast_with_frozen_weights(clip_folder):
    """Its attention is laid out anew (`kernels`): the same embeddings, and no plain layer of the library is left that
    would take many times as long."""
    encoder = load_model(f"local-dir:{clip_folder}").encoder.eval()
    small = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = []
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(type(module).__name__)
    )
    try:
        got = in_precision(encoder, torch.bfloat16)(small)
    finally:
        hook.remove()
    wanted = encoder(small)
    assert (got - wanted).norm() < 0.03 * wanted.norm()
    assert seen.count("SelfAttention") == 2 and "MultiheadAttention" not in seen
