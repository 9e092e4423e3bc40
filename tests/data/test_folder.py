"""Folders as users have them: listings and class names."""

import json
import pkgutil
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from seaanchor import data
from seaanchor.data.folder import list_images
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.names import read_class_names
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, UnlabelledImages
from seaanchor.errors import SeaAnchorError


def write(path: Path, colour: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 12), (colour, 0, 0)).save(path, "JPEG")


def read(images: Images, batch_size: int = 3, workers: int = 0, order=None):
    """All batches and the skip log."""
    log = SkipLog(images)
    return list(batches(ImageDataset(images, 8), batch_size, workers=workers, order=order, skip_log=log)), log


def test_class_folders(image_folder):
    images = list_images(image_folder)
    assert images.class_names == ("apple", "red fox", "zebra")
    assert images.labels == (0,) * 4 + (1,) * 4 + (2,) * 4
    assert [str(p.relative_to(image_folder)) for p in images.paths[3:6]] == [
        "apple/3.jpg",
        "red_fox/0.jpg",
        "red_fox/1.jpg",
    ]


def test_what_is_no_image_is_left_out_of_the_listing(image_folder):
    (image_folder / "notes.txt").write_text("")
    (image_folder / "apple" / "notes.txt").write_text("")
    (image_folder / "apple" / ".hidden.jpg").write_bytes(b"")
    (image_folder / "apple" / "folder.jpg").mkdir()
    (image_folder / ".cache").mkdir()
    (image_folder / "apple" / "4.JPEG").write_bytes((image_folder / "apple" / "0.jpg").read_bytes())
    write(image_folder / "apple" / "deeper" / "5.jpg")
    images = list_images(image_folder)
    assert len(images.paths) == 14
    assert sum(label == 0 for label in images.labels) == 6


def test_loose_images_are_unlabelled(tmp_path):
    write(tmp_path / "b.jpg")
    write(tmp_path / "a.png")
    (tmp_path / "x.jpg").mkdir()
    images = list_images(tmp_path)
    assert [p.name for p in images.paths] == ["a.png", "b.jpg"]
    assert isinstance(images, UnlabelledImages)
    assert read(images)[0][0].label_B is None


def test_missing_empty_and_split_folders(tmp_path, image_folder):
    def found(root: Path) -> str:
        with pytest.raises(SeaAnchorError) as caught:
            list_images(root)
        return str(caught.value)

    assert "is missing" in found(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "is a file" in found(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "no image in" in found(tmp_path / "empty")
    (image_folder / "yak").mkdir()
    assert "1 class folder(s)" in found(image_folder)
    assert "yak" in found(image_folder)
    for split in ("train", "val"):
        write(tmp_path / "splits" / split / "apple" / "0.jpg")
    assert f"name one, such as {tmp_path / 'splits' / 'train'}" in found(tmp_path / "splits")


def test_tiny_imagenet(tmp_path):
    (tmp_path / "words.txt").write_text("n00000001\tTench, Tinca tinca\nn00000002\tgoldfish\n")
    for folder, file in (("n00000001", "a"), ("n00000002", "b")):
        write(tmp_path / "train" / folder / "images" / f"{file}.JPEG")
        (tmp_path / "train" / folder / "boxes.txt").write_text("")
    write(tmp_path / "val" / "images" / "v1.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text(
        "v1.JPEG\tn00000002\t0\t0\t9\t9\nv2.JPEG\tn00000001\t0\t0\t9\t9\n"
    )
    train, val = list_images(tmp_path / "train"), list_images(tmp_path / "val")
    assert train.class_names == val.class_names == ("tench", "goldfish")
    assert val.labels == (1, 0)
    got, log = read(val)
    assert [b.label_B.tolist() for b in got] == [[1]]
    assert "1 of 2 images" in log.summary()  # v2 is named and not there
    (tmp_path / "val" / "val_annotations.txt").write_text("v1.JPEG n00000002\n")
    with pytest.raises(SeaAnchorError, match="no annotation table"):
        list_images(tmp_path / "val")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("names.json", json.dumps({"zebra": "z", "apple": "a", "red_fox": "r", "unused": "u"})),
        ("names.json", json.dumps(["a", "r", "z"])),
        ("names.JSON", json.dumps(["a", "r", "z"])),
        ("names.txt", "a\nr\n\n z \n"),
        ("names.txt", "\ufeffa\r\nr\r\nz"),
    ],
)
def test_class_names_files(image_folder, tmp_path, file, content):
    (tmp_path / file).write_bytes(content.encode())
    assert list_images(image_folder, tmp_path / file).class_names == ("a", "r", "z")


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("names.json", b'{"zebra": "z"}', "does not name apple, red_fox"),
        ("names.json", b'["a", "b"]', "holds 2 names"),
        ("names.json", b'"abc"', "something other than names"),
        ("names.json", b"3", "something other than names"),
        ("names.json", b'["a", "b", 3]', "something other than names"),
        ("names.json", b'{"apple": ["a"], "red_fox": "r", "zebra": "z"}', "something other than names"),
        ("names.json", b'["a", "b", " "]', "something other than names"),
        ("names.json", b"[", "could not be read"),
        ("names.txt", b"\xff\xfe\x00", "could not be read"),
        ("names.txt", b"a\nb\nc\nd", "holds 4 names"),
    ],
)
def test_class_names_files_that_are_wrong(image_folder, tmp_path, file, content, found):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(SeaAnchorError, match=found):
        list_images(image_folder, tmp_path / file)
    with pytest.raises(SeaAnchorError, match=r"missing\.json is missing"):
        read_class_names(tmp_path / "missing.json", ["a"])


def test_embedded_sets_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, test = open_images("photos-mini"), open_images("photos-mini", split="test")
    assert train.root.name == "train"
    assert test.root.name == "test"
    assert open_images("photos-mini/test", split="train").root == test.root
    assert train.class_names == test.class_names
    with pytest.raises(SeaAnchorError, match="has no part"):
        open_images("photos-mini/val")
    with pytest.raises(SeaAnchorError, match="missing"):
        open_images("photos-maxi")
    write(tmp_path / "emoji" / "0.jpg")
    assert open_images("emoji").root == Path("emoji")  # a folder of that name comes first


def test_a_folder_that_is_moved_reads_the_same(image_folder, tmp_path):
    first, _ = read(list_images(image_folder))
    moved = tmp_path / "moved"
    shutil.move(image_folder, moved)
    second, _ = read(list_images(moved))
    assert all(torch.equal(a.pixels_BCHW, b.pixels_BCHW) for a, b in zip(first, second, strict=True))


def test_image_folder_takes_names_as_a_list_or_a_file(image_folder, tmp_path):
    assert data.image_folder(image_folder) == list_images(image_folder)
    assert data.image_folder(str(image_folder), ["a", "b", "c"]).class_names == ("a", "b", "c")
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    assert data.image_folder(image_folder, str(tmp_path / "names.txt")).class_names == ("x", "y", "z")
    with pytest.raises(SeaAnchorError, match="the list of class names holds 2 names: 'zebra' has images and no class"):
        data.image_folder(image_folder, ["a", "b"])
    with pytest.raises(SeaAnchorError, match="which has no class folders"):
        data.image_folder(image_folder / "apple", ["a", "b"])
    for place, folder in enumerate(("apple", "red_fox", "zebra")):
        (image_folder / folder).rename(image_folder / str(9 + place))
    with pytest.raises(SeaAnchorError, match="among the numbers that name the classes 0, 1"):
        data.image_folder(image_folder, ["a", "b", "c"])
    assert [path.parent.name for path in list_images(image_folder).paths[::4]] == ["9", "10", "11"]


def test_public_names_are_there_and_none_is_that_of_a_submodule():
    assert set(data.__all__) == set(dir(data))
    for name in data.__all__:
        assert getattr(data, name) is getattr(data, name) is not None
    assert not {module.name for module in pkgutil.iter_modules(data.__path__)} & set(data.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = data.nothing


def test_sources_that_are_no_names():
    for source in ("", "x" * 5000):
        with pytest.raises(SeaAnchorError, match="is no name of images"):
            open_images(source)
