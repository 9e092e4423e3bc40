"""The core corruptions against the package, type by type and severity by severity; randomness that belongs to the
image."""

import builtins
import subprocess
import sys

import numpy as np
import pytest
import torch

from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.corruptions import CORE, EXTRA, KINDS, SEVERITIES, SIGMAS, corrupt, gaussian_noise
from seaanchor.types import Batch

imagecorruptions = pytest.importorskip(
    "imagecorruptions", exc_type=ImportError
)  # its OpenCV wants libGL, which a bare server may lack
RANDOM = CORE[:3]


@pytest.fixture(scope="module")
def batch() -> Batch:
    """40 embedded photos at 64 pixels, which the others have none of, with black and white among them."""
    images = subset(open_images("photos-mini/test"), 40, 0)
    return next(batches(ImageDataset(images, 64), 40, workers=0, order=None, skip_log=SkipLog(images)))


def by_package(pixels: torch.Tensor, kind: str, severity: int) -> torch.Tensor:
    images = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = np.stack(
        [
            imagecorruptions.corrupt(image, severity, kind, **({"seed": i} if kind == "impulse_noise" else {}))
            for i, image in enumerate(images)
        ]
    )
    return torch.from_numpy(found).permute(0, 3, 1, 2).float() / 255


def test_the_names_are_the_packages():
    assert set(KINDS) == set(imagecorruptions.get_corruption_names("all")) and len(KINDS) == 19
    assert set(CORE) <= set(imagecorruptions.get_corruption_names("common"))


@pytest.mark.parametrize("kind", CORE[3:])
def test_deterministic_kinds_equal_the_packages(batch, kind):
    """To one grey level of 255, where a value falls on a whole level but for rounding; 19 values of 20 exactly."""
    for size in (slice(None), slice(5, 51)):
        pixels = batch.pixels_BCHW[:12, :, size, :]
        for severity in SEVERITIES:
            ours, theirs = corrupt(pixels, kind, severity, batch.index_B[:12]), by_package(pixels, kind, severity)
            levels = ((ours - theirs) * 255).round().abs()
            assert levels.max() <= 1, (kind, severity)
            assert (levels == 0).float().mean() > 0.95, (kind, severity)
            assert (ours - pixels).abs().mean() > 0.005  # it does something


def test_every_colour_is_brightened_as_the_package_does():
    steps = torch.tensor([0, 1, 50, 128, 200, 254, 255]) / 255
    colours = torch.cartesian_prod(steps, steps, steps).T
    pixels = torch.zeros(1, 3, 32, 32)
    pixels.view(3, -1)[:, : colours.shape[1]] = colours
    for severity in SEVERITIES:
        assert (
            (corrupt(pixels, "brightness", severity, torch.tensor([0])) - by_package(pixels, "brightness", severity))
            * 255
        ).abs().max() < 1.01


@pytest.mark.parametrize("kind", RANDOM)
def test_random_kinds_have_the_packages_distribution(batch, kind):
    """Over 491,520 values: means to .003 and standard deviations to 3 %, of the change of all pixels, and of dark and
    of light ones."""
    np.random.seed(0)
    for severity in SEVERITIES:
        clean = batch.pixels_BCHW
        ours, theirs = (
            change - clean
            for change in (corrupt(clean, kind, severity, batch.index_B), by_package(clean, kind, severity))
        )
        for part in (clean >= 0, clean < 0.3, clean > 0.7):
            mine, other = ours[part], theirs[part]
            assert mine.mean().item() == pytest.approx(other.mean().item(), abs=0.003), (kind, severity)
            assert mine.std().item() == pytest.approx(other.std().item(), rel=0.03), (kind, severity)


def test_impulses_are_salt_and_pepper_in_equal_parts():
    grey = torch.full((1, 3, 100, 100), 128 / 255)
    found = corrupt(grey, "impulse_noise", 5, torch.tensor([0]))
    assert set(found.unique().tolist()) == {0.0, grey[0, 0, 0, 0].item(), 1.0}
    assert ((found == 0).float().mean() + (found == 1).float().mean()).item() == pytest.approx(0.27, abs=0.02)
    assert (found == 0).float().mean().item() == pytest.approx(0.135, abs=0.015)


@pytest.mark.parametrize(
    "kind",
    [
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "glass_blur",
        "fog",
        "frost",
        "snow",
        "elastic_transform",
        "motion_blur",
    ],
)
def test_randomness_belongs_to_the_image(batch, kind):
    pixels, index = batch.pixels_BCHW[:3], batch.index_B[:3]
    whole = corrupt(pixels, kind, 3, index, seed=1)
    assert torch.equal(corrupt(pixels[[2, 0]], kind, 3, index[[2, 0]], seed=1), whole[[2, 0]])
    assert not torch.equal(corrupt(pixels, kind, 3, index, seed=2), whole)
    twice = corrupt(pixels[:1].repeat(2, 1, 1, 1), kind, 3, torch.tensor([4, 5]))
    assert not torch.equal(twice[0], twice[1])


def test_the_global_random_state_is_put_back(batch):
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    corrupt(batch.pixels_BCHW[:1], "fog", 1, batch.index_B[:1])
    assert np.random.random() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_8_bit_pictures_and_harms_more_at_5_than_at_1(batch, kind, capsys):
    pixels, index = batch.pixels_BCHW[:4], batch.index_B[:4]
    mild, hard = (corrupt(pixels, kind, severity, index) for severity in (1, 5))
    assert mild.shape == pixels.shape and mild.dtype == pixels.dtype
    assert torch.equal((hard * 255).round() / 255, hard) and hard.min() >= 0 and hard.max() <= 1
    assert (hard - pixels).square().mean() > (mild - pixels).square().mean() > 0
    assert capsys.readouterr().out == ""


def test_noise_sweep():
    """Grey stays unclipped at small sigma, so the noise's own spread shows; black and white are clipped."""
    grey, index = torch.full((2, 3, 64, 64), 0.5), torch.tensor([3, 8])
    for sigma in SIGMAS[:4]:
        assert (gaussian_noise(grey, sigma, index) - grey).std().item() == pytest.approx(sigma, rel=0.05)
    noisy = gaussian_noise(grey, SIGMAS[-1], index, seed=4)
    assert noisy.min() == 0 and noisy.max() == 1
    assert torch.equal(gaussian_noise(grey[:1], SIGMAS[-1], index[1:], seed=4), noisy[1:])
    assert torch.equal(gaussian_noise(grey, 0.0, index), grey)
    ratio = (gaussian_noise(grey, 0.02, index) - 0.5) / (gaussian_noise(grey, 0.01, index) - 0.5)
    assert ratio.median().item() == pytest.approx(2, abs=1e-3)  # the same noise, larger


@pytest.mark.parametrize(
    ("kind", "severity", "shape", "message"),
    [
        ("rain", 1, (3, 64, 64), "corruption 'rain'"),
        ("fog", 6, (3, 64, 64), "severity 6"),
        ("contrast", 1, (3, 16, 64), "3 x 16 x 64"),
        ("fog", 1, (1, 64, 64), "1 x"),
    ],
)
def test_what_is_refused(kind, severity, shape, message):
    with pytest.raises(SeaAnchorError, match=message):
        corrupt(torch.zeros(1, *shape), kind, severity, torch.tensor([0]))


def test_without_the_extra_the_core_works_and_the_rest_says_what_to_install(batch, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "imagecorruptions":
            raise ImportError("no module")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    for kind in CORE:
        corrupt(batch.pixels_BCHW[:1], kind, 1, batch.index_B[:1])
    for kind in EXTRA:
        with pytest.raises(SeaAnchorError, match=r"seaanchor\[corruptions\]"):
            corrupt(batch.pixels_BCHW[:1], kind, 1, batch.index_B[:1])


def test_the_package_is_imported_only_when_needed():
    code = (
        "import sys, seaanchor.evaluation.suites.corruptions; print([m for m in ('imagecorruptions', "
        "'cv2', 'numba', 'skimage') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.exhaustive
def test_the_embedded_model_loses_with_noise_and_with_every_kind(batch):
    model = load_model("seaanchor-tiny")
    head = build_head(model, open_images("photos-mini/test").class_names)

    def accuracy(pixels):
        with torch.no_grad():
            return (head(model.encoder(pixels)).argmax(-1) == batch.label_B).double().mean().item()

    noisy = [accuracy(gaussian_noise(batch.pixels_BCHW, sigma, batch.index_B)) for sigma in SIGMAS]
    assert noisy[0] > 0.4 and noisy[-1] < 0.6 * noisy[0]
    assert all(
        accuracy(corrupt(batch.pixels_BCHW, kind, 5, batch.index_B)) < accuracy(batch.pixels_BCHW) for kind in CORE
    )
