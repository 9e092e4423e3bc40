"""The low-precision copy follows the weights it is of, and attacks on it find what attacks in fp32 find."""

from pathlib import Path

import pytest
import torch
from torch import nn

from seaanchor.attacks.ball import Ball
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.encoder import Reference
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.encoders.low_precision import LowPrecisionCopy
from seaanchor.functional.gradients import frozen
from seaanchor.perturbations.pgd import PGD
from seaanchor.profiling.op_counter import Meter

MODELS = Path(__file__).parents[2] / "models"

imitated = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor imitates bf16, a dozen times slower than it computes in fp32, and no run uses it",
)


@pytest.fixture
def encoder():
    return load_model(str(MODELS / "seaanchor-tiny-fare")).encoder


def test_it_is_near_the_encoder_and_follows_it(encoder):
    pixels = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, shadow = fingerprint(encoder), LowPrecisionCopy(encoder)
    wanted, got = encoder(pixels), shadow.refreshed()(pixels)
    assert got.dtype == torch.float32 and fingerprint(encoder) == before
    assert 0 < (got - wanted).norm() < 0.02 * wanted.norm()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.1)
    moved = encoder(pixels)
    assert (moved - wanted).norm() > 0.2 * wanted.norm()
    assert torch.equal(shadow.encoder(pixels), got)  # not before it is asked to
    assert (shadow.refreshed()(pixels) - moved).norm() < 0.02 * moved.norm()
    assert not any(p.requires_grad for p in shadow.encoder.parameters())


def test_statistics_stay_in_fp32_and_the_rest_is_low(encoder):
    norms = [m for m in LowPrecisionCopy(encoder).encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(m.running_var.dtype == m.weight.dtype == torch.float32 for m in norms)
    assert {m.weight.dtype for m in LowPrecisionCopy(encoder).encoder.modules() if isinstance(m, nn.Conv2d)} == {
        torch.bfloat16
    }


def test_bright_pixels_still_tell_one_step_from_another(encoder):
    shadow = LowPrecisionCopy(encoder).refreshed()
    bright = torch.full((1, 3, 64, 64), 1 - 1 / 255)
    assert not torch.equal(
        shadow(bright), shadow(bright + 0.25 / 255)
    )  # cast before normalising, both would be the same image


@imitated
def test_an_attack_on_it_finds_what_an_attack_in_fp32_finds(encoder):
    """FARE's attack on the embedded robust model, judged in fp32: the loss reached, and which photos change their
    class. Of 200 photos none or one did otherwise at 1 and 2/255, as with another random start, and the loss was 0.1 %
    lower."""
    photos = subset(open_images("photos-mini/test"), 40, 0)
    batch = next(batches(ImageDataset(photos, 64), 40, workers=0, order=None, skip_log=SkipLog(photos)))
    untrained = load_model("seaanchor-tiny")
    head, reference_BD = build_head(untrained, photos.class_names), Reference(untrained.encoder)(batch.pixels_BCHW)

    def attacked(tower):
        def loss(pixels):
            embedding_BD = tower(pixels)
            return (embedding_BD - reference_BD).square().sum(-1), embedding_BD

        with frozen(tower):
            hard = PGD(Ball("linf", 2 / 255))(batch, lambda _: loss, torch.Generator().manual_seed(0)).pixels_BCHW
        assert (hard - batch.pixels_BCHW).abs().max() <= 2 / 255 + 1e-6
        with torch.no_grad():
            embedding_BD = encoder(hard)
        return (embedding_BD - reference_BD).square().sum(-1), head(embedding_BD).argmax(-1) != batch.label_B

    wanted_B, wanted_fooled_B = attacked(encoder)
    got_B, got_fooled_B = attacked(LowPrecisionCopy(encoder).refreshed())
    assert abs(got_B.mean() / wanted_B.mean() - 1) < 0.005
    assert (wanted_fooled_B != got_fooled_B).sum() <= 1 and wanted_fooled_B.sum() > 5


def test_no_copy_in_fp32_is_made_on_the_way(encoder):
    """The largest amount of memory alive meanwhile is the copy's own."""
    norms = [layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    kept = sum(tensor.nbytes for layer in norms for tensor in (*layer.parameters(), *layer.buffers()))
    weights = sum(p.nbytes for p in (*encoder.parameters(), *encoder.buffers()))
    with Meter() as meter:
        shadow = LowPrecisionCopy(encoder)
    assert meter.peak <= (weights - kept) / 2 + kept + 1000
    assert sum(p.nbytes for p in shadow.encoder.parameters()) < 0.6 * sum(p.nbytes for p in encoder.parameters())
