"""Folders of splits, however they are spelt, are no class folders."""

from pathlib import Path

import pytest
from PIL import Image

from seaanchor.data.folder import list_images
from seaanchor.data.splits import are_splits, split_kind
from seaanchor.errors import SeaAnchorError


def write(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        Image.new("RGB", (12, 12)).save(root / folder / "0.jpg")
    return root


@pytest.mark.parametrize("name", ["train", "Train", "TRAINING", "train2017", "train_images", "Train Set", "train-01"])
def test_spellings_of_train(name):
    assert split_kind(name) == "train"


@pytest.mark.parametrize(
    "name", ["training shoe", "trainer", "test tube", "2017", "", "images", "invalid", "développeur"]
)
def test_names_that_are_no_splits(name):
    assert split_kind(name) is None


def test_classes_that_are_called_like_a_split_among_others():
    assert not are_splits(["bus", "car", "train"]) and not are_splits(["invalid", "valid"]) and not are_splits([])
    assert are_splits(["Meta", "Test", "Train"]) and are_splits(["train"]) and are_splits(["trainval", "test"])


@pytest.mark.parametrize(
    "splits",
    [
        ("Train", "Test"),
        ("Training", "Testing"),
        ("train2017", "val2017"),
        ("seen", "unseen"),
        ("photo", "sketch", "art"),
    ],
)
def test_folders_of_the_same_classes_are_splits(tmp_path, splits):
    root = write(tmp_path, *(f"{split}/{name}" for split in splits for name in ("cat", "dog", "emu")))
    with pytest.raises(SeaAnchorError, match=r"holds the splits|hold the same folders cat, dog, emu") as caught:
        list_images(root)
    assert any(str(root / split) in caught.value.change for split in splits)
    assert list_images(root / splits[0]).class_names == ("cat", "dog", "emu")


def test_splits_may_lack_a_class(tmp_path):
    with pytest.raises(SeaAnchorError, match=r"seen, unseen in .* hold the same folders"):
        list_images(write(tmp_path, "seen/cat", "seen/dog", "seen/emu", "unseen/cat", "unseen/dog"))


def test_class_folders_that_hold_splits_each(tmp_path):
    root = write(tmp_path, "bottle/train", "bottle/test", "cable/train", "cable/test")
    with pytest.raises(SeaAnchorError, match="bottle, which would be a class, holds the splits test, train"):
        list_images(root)


@pytest.mark.parametrize(
    "folders",
    [
        ("bottle/train", "bottle/test", "cable/train"),
        ("inner/train/cat", "inner/val/cat"),  # as archives are unpacked
        ("train/cat", "train/dog", "meta"),
    ],
)
def test_splits_that_are_not_beside_each_other(tmp_path, folders):
    with pytest.raises(SeaAnchorError, match=r"holds the splits|holds folders as a split does") as caught:
        list_images(write(tmp_path, *folders))
    assert "name" in caught.value.change


def test_a_class_called_train(tmp_path):
    assert list_images(write(tmp_path, "bus", "train", "tram")).class_names == ("bus", "train", "tram")


def test_folders_in_class_folders(tmp_path, capsys):
    flat = list_images(write(tmp_path / "a", "cat/images", "dog/images"))  # as in Tiny-ImageNet
    assert flat.labels == (0, 1) and capsys.readouterr().err == ""
    nested = list_images(write(tmp_path / "b", "animal/cat", "animal/dog", "vehicle/car", "vehicle/bus"))
    assert nested.class_names == ("animal", "vehicle") and nested.labels == (0, 0, 1, 1)
    assert "those inside them, as in animal, are not told apart" in capsys.readouterr().err
