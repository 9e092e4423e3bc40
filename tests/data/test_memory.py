"""What is read is let go: reading ten times as many images takes no more memory, whatever they are read from."""

import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
