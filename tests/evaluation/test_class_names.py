"""The accuracy that the embedded model has on photos, however their classes are stored."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.places import EMBEDDED
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import DEFAULT_TEMPLATES, build_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.zeroshot import classifier

PHOTOS = EMBEDDED / "photos-mini" / "test"
CLASSES = sorted(folder.name for folder in PHOTOS.iterdir())
TWELVE, SIX = CLASSES[:12], CLASSES[:6]


@pytest.fixture(scope="module")
def model():
    return load_model("seaanchor-tiny")


def photos(name: str, count: int) -> list[Path]:
    return sorted((PHOTOS / name).iterdir())[:count]


def accuracy(model, source: Path, class_names: Path | None = None) -> tuple[float, int]:
    """Per cent, and of how many images."""
    images = open_images(source, class_names, split="test")
    head = build_head(model, images.class_names, DEFAULT_TEMPLATES)
    logits = classifier(model, head, torch.device("cpu"))
    dataset = ImageDataset(images, model.encoder.image_size)
    right = []
    with torch.no_grad():
        for batch in batches(dataset, 64, workers=0, order=None, skip_log=SkipLog(images)):
            right += (logits(batch.pixels_BCHW).argmax(-1) == batch.label_B).tolist()
    return round(100 * sum(right) / len(right), 1), len(right)


def class_folders(root: Path, names: dict[str, str], count: int) -> Path:
    for folder, name in names.items():
        (root / folder).mkdir(parents=True)
        for file in photos(name, count):
            shutil.copy(file, root / folder)
    return root


@pytest.fixture(scope="module")
def clean(model, tmp_path_factory) -> float:
    root = class_folders(tmp_path_factory.mktemp("six"), {name: name for name in SIX}, 8)
    found, count = accuracy(model, root)
    assert found == 93.8 and count == 48
    return found


def test_numbered_folders_beside_a_list(model, tmp_path):
    root = class_folders(tmp_path / "images", {str(i): name for i, name in enumerate(TWELVE)}, 5)
    (tmp_path / "names.txt").write_text("\n".join(TWELVE))
    assert accuracy(model, root, tmp_path / "names.txt") == (86.7, 60)


def test_linked_folders_and_endings(model, tmp_path, clean):
    for name in SIX:
        (tmp_path / "images" / name).mkdir(parents=True)
        few, rest = photos(name, 3), photos(name, 8)[3:]
        for file, ending in zip(few, (".jfif", ".jpe", ""), strict=True):
            shutil.copy(file, tmp_path / "images" / name / f"{file.stem}{ending}")
        (tmp_path / "store" / name).mkdir(parents=True)
        for file in rest:
            shutil.copy(file, tmp_path / "store" / name)
        (tmp_path / "images" / name / "more").symlink_to(tmp_path / "store" / name)
    assert accuracy(model, tmp_path / "images") == (clean, 48)


@pytest.mark.parametrize("made", ["mac", "text labels", "strays"])
def test_shards_as_others_write_them(model, tmp_path, clean, made):
    def add(name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))

    (tmp_path / "test").mkdir()
    with tarfile.open(tmp_path / "test" / "0.tar", "w") as archive:
        for label, name in enumerate(SIX):
            for i, file in enumerate(photos(name, 8)):
                for ending, data in (("jpg", file.read_bytes()), ("cls", str(label).encode())):
                    if made == "mac":
                        add(f"./._{label}{i}.{ending}", b"\0\5\x16\7")
                    if made == "strays":
                        add(f"notes/{label}.txt", b"a stray")
                    text = made == "text labels" and ending == "cls"
                    add(f"{'./' if made == 'mac' else ''}{label}{i}.{ending}", name.encode() if text else data)
    if made != "text labels":
        (tmp_path / "classnames.txt").write_text("\r\n".join(SIX) + "\n\n", newline="")
    assert accuracy(model, tmp_path) == (clean, 48)


def test_wordnet_folders_beside_their_list(model, tmp_path, clean):
    numbers = {f"n{10_000_000 + i}": name for i, name in enumerate(SIX)}
    root = class_folders(tmp_path / "images", numbers, 8)
    lines = [f"{number} {name}, another word for it" for number, name in numbers.items()]
    (tmp_path / "LOC_synset_mapping.txt").write_text("\n".join(reversed(lines)))
    assert accuracy(model, root, tmp_path / "LOC_synset_mapping.txt") == (clean, 48)
