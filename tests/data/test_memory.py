"""What is read is let go: reading ten times as many images takes no more memory, whatever they are read from."""

import ctypes
import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seaanchor.data.images import read_image
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images

FEW, MANY, SIDE = 80, 800, 200
BYTES = 3 * SIDE * SIDE  # of an image, stored without compression: 96 MB are read in all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def picture() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(
        stream, "PNG", compress_level=0
    )
    return stream.getvalue()


def as_folder(root: Path) -> str:
    (root / "a").mkdir()
    (root / "a" / "0.png").write_bytes(picture())
    for i in range(1, MANY):
        os.link(root / "a" / "0.png", root / "a" / f"{i}.png")
    return str(root)


def as_shard(root: Path) -> str:
    data = picture()
    with tarfile.open(root / "0.tar", "w") as archive:
        for i in range(MANY):
            info = tarfile.TarInfo(f"s{i}.png")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(root / "0.tar")


def as_table(root: Path) -> str:
    datasets = pytest.importorskip("datasets")
    data = picture()
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": data, "path": None}] * MANY}, features=datasets.Features({"image": datasets.Image()})
    )
    rows.save_to_disk(str(root / "saved"))
    return str(root / "saved")


def resident() -> float:
    """Megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.parametrize("make", [as_folder, as_shard, as_table])
def test_memory_does_not_grow_with_the_images_read(tmp_path, make):
    images = open_images(make(tmp_path))
    assert len(images.paths) == MANY
    log, seen = SkipLog(images), []
    for batch in batches(ImageDataset(images, 16), FEW, workers=0, order=None, skip_log=log):
        assert len(batch.index_B) == FEW
        seen.append(resident())
    assert not log.summary()
    assert max(seen) - seen[0] < 0.3 * BYTES * MANY / 1e6  # 29 MB


PIXELS = 4000  # of a side


def peak(path: Path) -> int:
    """Bytes that reading a picture takes at most, above what the process had before."""
    Image.core.clear_cache()
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # or what was let go before would be used again, unseen
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is that of now
    before = resident() * 1e6
    read_image(path, 32)
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 - int(before)


def in_mode(name: str, side: int) -> Image.Image:
    if name == "float.tif":
        return Image.fromarray(np.full((side, side), 0.5, np.float32))
    if name == "grey16.png":
        return Image.fromarray(np.full((side, side), 40_000, np.uint16))
    mode, colour = {"rgb": ("RGB", "red"), "rgba": ("RGBA", "red"), "la": ("LA", (9, 9))}.get(name[:-4], ("P", 3))
    return Image.new(mode, (side, side), colour)


@pytest.mark.parametrize("name", ["grey16.png", "float.tif", "rgb.png", "rgba.png", "la.png", "palette.png"])
def test_memory_for_a_picture_is_a_few_bytes_a_pixel_whatever_its_mode(tmp_path, name):
    settings = {"compress_level": 1} | ({"transparency": 3} if name == "palette.png" else {})
    in_mode(name, PIXELS).save(tmp_path / name, **settings if name.endswith("png") else {})
    assert peak(tmp_path / name) < 12 * PIXELS**2  # 2.1 GB for the largest picture that is read
