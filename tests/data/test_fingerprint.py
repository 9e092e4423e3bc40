"""A changed image is never taken for what it was, however little of it changed."""

import os
import shutil

import pytest
from PIL import Image

from seaanchor.data import fingerprint as identity
from seaanchor.data.fingerprint import identity_of, still_unreadable
from seaanchor.data.loader import ImageDataset, SkipLog
from seaanchor.data.sources import open_images
from seaanchor.data.webdataset.write import build_shards


@pytest.fixture(params=["content", "files"])
def kind(request, monkeypatch):
    """Small sets are told by what they hold, large ones by their files."""
    if request.param == "files":
        monkeypatch.setattr(identity, "READ_WHOLE", 0)
    return request.param


@pytest.fixture(params=["folder", "shards"])
def source(request, image_folder, tmp_path):
    if request.param == "folder":
        return image_folder
    build_shards(open_images(str(image_folder)), tmp_path / "shards", "train")
    return tmp_path / "shards" / "train"


def change_a_byte(source) -> None:
    """Size and time stay."""
    file = sorted(f for f in source.rglob("*") if f.suffix in (".jpg", ".tar"))[0]
    before, raw = file.stat(), bytearray(file.read_bytes())
    place = raw.index(b"\xff\xda") + 40  # inside the first picture's coefficients
    raw[place] ^= 1
    file.write_bytes(raw)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size and file.stat().st_mtime_ns == before.st_mtime_ns


def test_one_byte_is_enough(kind, source):
    def now():
        return identity_of(open_images(str(source)), 32)

    before = now()
    assert before == now() and kind in before
    change_a_byte(source)
    assert now() != before


def test_order_and_size_count(kind, image_folder):
    from dataclasses import replace

    images = open_images(str(image_folder))
    names = [
        identity_of(images, 32),
        identity_of(images, 64),
        identity_of(replace(images, paths=images.paths[::-1]), 32),
    ]
    assert len({str(name) for name in names}) == 3
    missing = replace(images, paths=(*images.paths[:-1], images.paths[-1].with_name("gone.jpg")))
    assert identity_of(missing, 32) not in names


def test_small_sets_may_move(image_folder, tmp_path):
    shutil.copytree(image_folder, tmp_path / "elsewhere")
    assert identity_of(open_images(str(image_folder)), 32) == identity_of(open_images(str(tmp_path / "elsewhere")), 32)


def test_tables(kind, image_folder, tmp_path):
    from dataclasses import replace

    datasets = pytest.importorskip("datasets")
    rows = {"image": list(map(str, open_images(str(image_folder)).paths)), "label": [0, 1] * 6}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "table")
    images = open_images(f"hf-data:{tmp_path / 'table'}")
    first = identity_of(images, 32)
    assert kind in first and first == identity_of(open_images(f"hf-data:{tmp_path / 'table'}"), 32)
    assert identity_of(replace(images, paths=images.paths[1:]), 32) != first
    elsewhere = replace(
        images, paths=tuple(replace(row, size=0) for row in images.paths)
    )  # rows that name a file have no size
    if kind == "files":  # nobody knows whether those have changed
        assert identity_of(replace(images, paths=(elsewhere.paths[0], *images.paths[1:])), 32) is None
    else:
        assert identity_of(elsewhere, 32) == first


def test_what_could_not_be_read_is_tried_again(image_folder):
    import torch

    images = open_images(str(image_folder))
    images.paths[5].write_bytes(b"no image")
    read_N = torch.ones(12, dtype=torch.bool)
    read_N[5] = False
    skip_log = SkipLog(images)
    assert still_unreadable(ImageDataset(images, 32), read_N, skip_log) and list(skip_log.reasons) == [5]
    Image.new("RGB", (40, 40)).save(images.paths[5])
    assert not still_unreadable(ImageDataset(images, 32), read_N, SkipLog(images))
