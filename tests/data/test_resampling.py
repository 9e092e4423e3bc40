"""The compiled resizing gives Pillow's pixels to the last bit, or leaves the work to Pillow."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from seaanchor.data import resampling
from seaanchor.data.preprocessing import Preprocessing, to_square

FILTERS = ["bicubic", "bilinear"]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise, whose sums lie everywhere between two levels, with black and white blocks, whose edges overshoot."""
    rng = np.random.default_rng(seed)
    pixels_HWC = rng.integers(0, 256, (height, width, 3), np.uint8)
    pixels_HWC[: height // 2, width // 3 :] = np.where(pixels_HWC[: height // 2, width // 3 :] > 127, 255, 0)
    return Image.fromarray(pixels_HWC)


@pytest.fixture
def compiled(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(resampling, "_loaded", [resampling._load()])
    assert resampling._loaded[0] is not None


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    ("length", "resized"), [(500, 298), (375, 224), (333, 224), (90, 7), (71, 70), (40, 40), (12, 31), (1, 5), (97, 1)]
)
def test_weights_are_pillows(length, resized, interpolation):
    """Pillow resizes 32-bit pixels with the same weights and rounds to whole numbers: of one pixel of 2²², to ours."""
    impulses = Image.fromarray((np.eye(length) * (1 << resampling.BITS)).astype(np.int32))
    theirs_SL = np.asarray(impulses.resize((resized, length), Image.Resampling[interpolation.upper()])).T
    ours_SL = np.zeros((resized, length), np.int64)
    whole_SK, begin_S, size_S = resampling.whole_weights(length, resized, interpolation)
    for row, weight_K, begin, size in zip(ours_SL, whole_SK, begin_S, size_S, strict=True):
        row[begin : begin + size] = weight_K[:size]
    assert (ours_SL == theirs_SL).all()


@pytest.mark.parametrize("seed", range(40))
def test_pixels_are_pillows(compiled, seed):
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(60, 420, 2))
    side = int(rng.integers(9, 56))
    grow = side / min(width, height) * rng.uniform(1, 1.3)
    size = (max(side, int(width * grow)), max(side, int(height * grow)))
    if seed % 5 == 0:
        size = (side, side)
    left, top = (int(rng.integers(0, long - side + 1)) for long in size)
    image, name = picture(width, height, seed), FILTERS[seed % 2]
    ours = resampling.resized_square(image, size, (left, top), side, name)
    tall = height - size[1] > 2 * (width - size[0])
    assert (ours is None) == tall
    if ours is not None:
        theirs = image.resize(size, Image.Resampling[name.upper()]).crop((left, top, left + side, top + side))
        assert np.array_equal(ours.numpy(), np.asarray(theirs).transpose(2, 0, 1))


@pytest.mark.parametrize(
    "shape", [(500, 375), (375, 500), (640, 427), (300, 1100), (1100, 300), (224, 224), (230, 226)]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_those_of_open_clips_own_transform(compiled, shape, mode):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    image = picture(*shape).convert(mode)
    transform = image_transform_v2(PreprocessCfg(size=224, mean=(0.0,) * 3, std=(1.0,) * 3), is_train=False)
    assert torch.equal(to_square(image, Preprocessing(224)), (transform(image) * 255).round().byte())


def test_a_crop_after_a_larger_resize(compiled):
    how = Preprocessing(64, "shortest", "bilinear", 73, colours="rgb")
    fast = to_square(picture(210, 160), how)
    resampling._loaded[:] = [None]
    assert torch.equal(fast, to_square(picture(210, 160), how))


def test_what_is_left_to_pillow(compiled):
    assert resampling.resized_square(picture(90, 80), (45, 40), (2, 0), 40, "bicubic") is not None
    grown, other, outside = ((95, 84), "bicubic", (0, 0)), ((45, 40), "lanczos", (0, 0)), ((45, 40), "bicubic", (6, 0))
    for size, name, corner in (grown, other, outside):
        assert resampling.resized_square(picture(90, 80), size, corner, 40, name) is None
    assert resampling.resized_square(picture(90, 80).convert("L"), (45, 40), (2, 0), 40, "bicubic") is None


def test_loops_are_loaded_where_they_pay(monkeypatch):
    monkeypatch.setattr(resampling, "_loaded", [])
    monkeypatch.setattr(resampling, "_load", lambda: None)

    def reads(*shape: int):
        return lambda: to_square(picture(*shape), Preprocessing(32))

    resampling.prepare(resampling.MANY - 1, reads(90, 80))
    assert not resampling._loaded
    resampling.prepare(resampling.MANY, reads(32, 32))
    assert not resampling._loaded
    resampling.prepare(resampling.MANY, reads(90, 80))
    assert resampling._loaded == [None]
    resampling.prepare(resampling.MANY, lambda: pytest.fail("they are looked for once"))


def test_a_pillow_of_other_pixels_keeps_its_own(compiled, monkeypatch):
    right = resampling.whole_weights

    def wrong(length: int, resized: int, interpolation: str):
        whole_SK, begin_S, size_S = right(length, resized, interpolation)
        return whole_SK + (whole_SK != 0) * 4_000, begin_S, size_S

    monkeypatch.setattr(resampling, "whole_weights", wrong)
    resampling.weights.cache_clear()
    assert resampling._load() is None
    resampling.weights.cache_clear()


def test_without_numba_pillow_resizes(monkeypatch, caplog):
    monkeypatch.setattr(resampling, "find_spec", lambda name: None)
    assert resampling._load() is None and not caplog.records
    monkeypatch.undo()
    for name in ("numba", "seaanchor.data.resampling_kernels"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr("seaanchor.data.resampling_kernels", raising=False)
    monkeypatch.setattr(resampling, "find_spec", lambda name: object())
    assert resampling._load() is None
    assert "cannot be used" in caplog.text
