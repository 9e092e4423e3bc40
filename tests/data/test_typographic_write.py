"""`attack typographic`: lettered files that are read back as they were meant, and one error for all that cannot be
written."""

import json
import resource
from dataclasses import replace

import pytest
from PIL import Image

from seaanchor.data.folder import list_images
from seaanchor.data.typographic.read import list_lettered
from seaanchor.data.typographic.write import write_typographic
from seaanchor.errors import SeaAnchorError
from seaanchor.perturbations.typographic import Typographic


@pytest.fixture
def images(image_folder):
    return list_images(image_folder)


def attack(images, **settings):
    return Typographic(images.class_names, **settings)


def test_what_is_written_is_read_back_with_label_and_drawn_word(images, tmp_path):
    images = replace(images, class_names=("apple_2", "red fox", "жираф"))
    written, skipped = write_typographic(images, attack(images, variants=2), 64, tmp_path / "out")
    assert written == 24 and skipped == ""
    table = {row["file"]: row for row in map(json.loads, (tmp_path / "out" / "boxes.jsonl").read_text().splitlines())}
    again = list_lettered(tmp_path / "out")
    assert set(table) == {path.name for path in again.paths} and again.class_names == images.class_names
    for path, label, (chosen, rejected) in zip(again.paths, again.labels, again.pairs, strict=True):
        number = int(path.stem.rpartition("_")[2])
        assert label == chosen == images.labels[number // 2] and rejected != label
        left, top, right, bottom = table[path.name]["box"]
        assert 0 <= left < right <= 64 and 0 <= top < bottom <= 64


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("tv/monitor", "a", "b"), "'tv/monitor'"),
        (("x_text=y", "a", "b"), "'x_text=y'"),
        (("x" * 200, "a", "b"), "does not fit an image of 64"),
        (("x" * 300, "a", "b"), "301 bytes of class names"),
    ],
)
def test_names_that_cannot_be_written_or_drawn_end_it_before_anything_is_there(images, tmp_path, names, found):
    images = replace(images, class_names=names)
    with pytest.raises(SeaAnchorError, match=found):
        write_typographic(images, attack(images), 64, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_in_use_and_folders_that_cannot_be(images, image_folder, tmp_path):
    (tmp_path / "file").write_text("x")
    for output, found in (
        (image_folder, "not empty"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "out", "could not be written"),
    ):
        with pytest.raises(SeaAnchorError, match=found):
            write_typographic(images, attack(images), 64, output)


def test_a_disk_that_fills_up(images, tmp_path):
    """A limit on the size of files stands in for the disk: the kernel refuses the write half-way, as it would there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(SeaAnchorError, match="could not be written: File too large"):
            write_typographic(images, attack(images), 64, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "out" / "boxes.jsonl").exists()


def test_a_listing_of_names_that_differ_and_files_that_are_none(tmp_path):
    """Accents are spelt in two ways, as systems do, and a hidden file of a Mac lies beside."""
    for label, word in (("caf\u00e9", "bar"), ("bar", "cafe\u0301"), ("Bar ", "zoo")):
        Image.new("RGB", (8, 8)).save(tmp_path / f"label={label}_text={word}.jpg")
    (tmp_path / "._label=x_text=y.jpg").write_bytes(b"x")
    (tmp_path / "label=a_text=b.jpg").symlink_to("/nowhere/a.jpg")
    images = list_lettered(tmp_path)
    assert images.class_names == ("Bar", "caf\u00e9", "zoo")
    assert sorted(zip(images.labels, images.words, strict=True)) == [(0, 1), (0, 2), (1, 0)]
    assert len(images.refused) == 1 and "is a link to /nowhere/a.jpg" in images.refused[0]
    Image.new("RGB", (8, 8)).save(tmp_path / "label=_text=b.jpg")
    with pytest.raises(SeaAnchorError, match=r"the class name '' of .* is blank"):
        list_lettered(tmp_path)
