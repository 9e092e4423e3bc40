"""Both sides of the bars of loading read the same pixels, and a bar does not pass where they differ."""

import pytest
import torch

from bench import clock, loading
from bench.frame import NotMeasured

SIZE = (120, 90)


@pytest.fixture
def images(monkeypatch):
    monkeypatch.setitem(loading.COUNTS, SIZE, 3)
    monkeypatch.setattr(loading, "SIDE", 32)
    loading.transform.cache_clear()
    yield loading.pictures(SIZE, "jpg")
    loading.transform.cache_clear()


def test_both_sides_read_the_same(images, monkeypatch):
    monkeypatch.setenv(clock.QUICK, "1")
    found = loading.against_pillow(SIZE, "jpg")
    assert found.details["n"] == 3 and found.value == pytest.approx(
        found.details["images_per_s"] / found.details["peer_images_per_s"]
    )
    assert loading.ours(images).shape == (3, 3, 32, 32) and loading.ours(images).std() > 0.05


def test_shards_too(images, monkeypatch):
    pytest.importorskip("webdataset")
    monkeypatch.setattr(loading, "SMALL", SIZE)
    monkeypatch.setenv(clock.QUICK, "1")
    assert loading.against_webdataset().details["n"] == 3


def test_other_pixels_are_no_measurement(images):
    with pytest.raises(AssertionError, match="the pixels differ"):
        loading.against(images, lambda: loading.pillow(images) + 1 / 255, SIZE)


def test_pictures_are_the_same_each_time_and_differ_from_each_other():
    first, again, other = (torch.tensor(list(loading.photograph(SIZE, seed).tobytes())) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.float().std() > 30


def test_without_webdataset_the_reason_is_said(monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(NotMeasured, match="webdataset is not installed"):
        loading.against_webdataset()
