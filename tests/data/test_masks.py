"""Images with masks: layouts, what their numbers mean, and that a mask goes the way of its image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seaanchor.data.images import read_image
from seaanchor.data.loader import ImageDataset, subset
from seaanchor.data.mask_files import classes_of
from seaanchor.data.masks import has_masks, open_segmented, read_mask
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.errors import SeaAnchorError

SQUARE = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 255, 255]], np.uint8)
PALETTE = [level for index in range(256) for level in (index, 37 * index % 256, 99)]


def scaled(numbers, factor: int = 10) -> np.ndarray:
    return np.kron(np.asarray(numbers), np.ones((factor, factor))).astype(np.asarray(numbers).dtype)


def save_mask(path: Path, numbers, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(numbers))
    if mode == "P":
        image.putpalette(PALETTE)
        assert image.mode == "P"
    image.save(path)


def save_image(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 30)).save(path)


def pair(root: Path, stem: str, numbers, mode: str = "L", masks: str = "masks") -> None:
    save_image(root / "images" / f"{stem}.jpg", np.asarray(numbers).shape[::-1])
    save_mask(root / masks / f"{stem}.png", numbers, mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pair(tmp_path / "set", "a", scaled(SQUARE))
    pair(tmp_path / "set", "deep/b", scaled(SQUARE.T), "P")
    (tmp_path / "set" / "classnames.txt").write_text("grass\nsky\ntree\n")
    return tmp_path / "set"


def test_a_folder_of_images_and_masks(folder):
    images = open_segmented(folder)
    assert [path.name for path in images.paths] == ["a.jpg", "b.jpg"]
    assert [path.name for path in images.masks] == ["a.png", "b.png"]
    assert images.class_names == ("grass", "sky", "tree") and images.refused == ()
    assert np.array_equal(classes_of(images, 0), scaled(SQUARE)) and np.array_equal(
        classes_of(images, 1), scaled(SQUARE.T)
    )
    assert subset(images, 1, 0).masks in (images.masks[:1], images.masks[1:])
    assert ImageDataset(images, 8)[0].pixels_CHW.shape == (3, 8, 8)
    (folder / "images" / "a.jpg").write_bytes(b"no picture")  # left to those who read it
    assert ImageDataset(open_segmented(folder), 8)[0].pixels_CHW is None


def test_without_names_classes_are_called_by_their_numbers(folder, capsys):
    (folder / "classnames.txt").unlink()
    assert open_segmented(folder).class_names == ("0", "1", "2")
    assert "called by their numbers" in capsys.readouterr().err
    assert open_segmented(folder, Path("grass,sky,tree,sea")).class_names[3] == "sea"


def test_splits_in_both_folders(tmp_path):
    for split, number in (("train", 0), ("Validation", 1)):
        pair(tmp_path, f"{split}/a", np.full((8, 8), number, np.uint8))
    assert classes_of(open_segmented(tmp_path, Path("a,b"), "val"), 0).max() == 1
    with pytest.raises(SeaAnchorError, match="holds the splits Validation, train"):
        open_segmented(tmp_path, Path("a,b"), "test")


@pytest.mark.parametrize("named", [True, False])
def test_ade20k(tmp_path, named):
    stored = scaled([[0, 1], [2, 150]]).astype(np.uint8)
    for split in ("training", "validation"):
        save_image(tmp_path / "images" / split / "ADE_1.jpg", (20, 20))
        save_mask(tmp_path / "annotations" / split / "ADE_1.png", stored if split == "validation" else stored * 0 + 1)
    if named:
        rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", "1\t0.2\t9\t9\t1\twall", "2\t.1\t9\t9\t1\tbuilding, edifice"]
        rows += [f"{i}\t.1\t9\t9\t1\tthing {i}" for i in range(3, 149)]
        rows += ["149\t.1\t9\t9\t1\tscreen, silver screen", "150\t.1\t9\t9\t1\tscreen, crt screen"]
        (tmp_path / "objectInfo150.txt").write_text("\n".join(rows) + "\n")
    images = open_segmented(tmp_path)
    assert np.array_equal(classes_of(images, 0), scaled([[255, 0], [1, 149]]))
    assert len(images.class_names) == 150
    names = [images.class_names[i] for i in (0, 1, 149)]
    assert names == (["wall", "building", "screen, crt screen"] if named else ["1", "2", "150"])
    assert set(np.unique(classes_of(open_segmented(tmp_path, split="train"), 0))) == {0}


def test_voc(tmp_path):
    for stem in ("2007_1", "2007_2", "2007_3"):
        save_image(tmp_path / "JPEGImages" / f"{stem}.jpg")
    for stem in ("2007_1", "2007_3"):
        save_mask(tmp_path / "SegmentationClass" / f"{stem}.png", scaled(SQUARE), "P")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_1\n")
    (lists / "val.txt").write_text("2007_3\r\n\r\n")
    (lists / "trainval.txt").write_text("2007_1\n2007_2\n")
    images = open_segmented(tmp_path)
    assert [path.stem for path in images.paths] == ["2007_3"]
    assert images.class_names[0] == "background" and images.class_names[20] == "tv monitor"
    assert len(images.class_names) == 21
    assert np.array_equal(classes_of(images, 0), scaled(SQUARE))  # indices, not the palette's colours
    with pytest.raises(SeaAnchorError, match=r"trainval\.txt names 2007_2, which .*SegmentationClass lacks"):
        open_segmented(tmp_path, split="trainval")
    with pytest.raises(SeaAnchorError, match="holds train, trainval, val"):
        open_segmented(tmp_path, split="test")


WAYS = [
    Preprocessing(24),
    Preprocessing(20, resize_size=26),
    Preprocessing(24, "longest", "bilinear", fill=7),
    Preprocessing(24, "squash", colours="rgb"),
    Preprocessing(24, "none"),
    Preprocessing(24, backend="torchvision", interpolation="bilinear"),
    Preprocessing(24, "longest", backend="torchvision", fill=7),
]


@pytest.mark.parametrize("how", WAYS, ids=str)
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (37, 37), (400, 90), (20, 12)])
def test_a_mask_goes_the_way_of_its_image(tmp_path, how, size):
    """An image that is white where its mask says 1: after any preprocessing the two agree, but beside the edges."""
    width, height = size
    mask_HW = np.zeros((height, width), np.uint8)
    mask_HW[: height // 2, : width // 2] = 1
    mask_HW[-height // 4 :, width // 3 :] = 1
    (tmp_path / "images").mkdir()
    Image.fromarray(mask_HW * 255).convert("RGB").save(tmp_path / "images" / "a.png")
    save_mask(tmp_path / "masks" / "a.png", mask_HW)
    images = open_segmented(tmp_path, Path("black,white"))
    found_SS, pixels_SS = read_mask(images, 0, how), read_image(images.paths[0], how)[0].float()
    assert found_SS.dtype == torch.long and found_SS.shape == pixels_SS.shape
    void_SS = found_SS == 255
    assert void_SS.any() == (
        (how.resize_mode == "longest" and width != height) or (how.resize_mode == "none" and min(size) < 24)
    )
    assert (pixels_SS[void_SS] == how.fill).all()
    sure_SS = ~void_SS & ((pixels_SS < 8) | (pixels_SS > 247))
    assert sure_SS.float().mean() > 0.4 * (~void_SS).float().mean()
    assert torch.equal(found_SS[sure_SS], (pixels_SS[sure_SS] > 127).long())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            lambda root: save_mask(root / "masks" / "a.png", scaled(SQUARE.T)),
            "a.png has 30 × 40 pixels, and a.jpg 40 × 30",
        ),
        (lambda root: save_mask(root / "masks" / "a.png", scaled(SQUARE + 2)), "holds 4, and there are 3 classes"),
        (lambda root: save_mask(root / "masks" / "a.png", scaled(SQUARE.astype(np.uint16) + 300)), "holds 555"),
        (lambda root: (root / "masks" / "a.png").unlink(), "images has a, which .*masks lacks"),
        (lambda root: (root / "masks" / "a.png").write_bytes(b"no picture"), "a.png could not be read"),
        (
            lambda root: save_mask(root / "masks" / "a.png", np.dstack([scaled(SQUARE)] * 2 + [scaled(SQUARE) * 0])),
            "colours",
        ),
        (lambda root: save_image(root / "masks" / "a.jpg"), "a.jpg and a.png differ only in their endings"),
        (lambda root: [save_image(root / "masks" / "a.jpg"), (root / "masks" / "a.png").unlink()], "is a JPEG"),
        (
            lambda root: [
                save_mask(f, scaled(SQUARE.T if f.stem == "b" else SQUARE) * 0 + 255) for f in root.rglob("*.png")
            ],
            "no pixel of the masks .* has a class",
        ),
        (
            lambda root: [
                save_mask(f, (scaled(SQUARE.T if f.stem == "b" else SQUARE) > 0) * np.uint8(255))
                for f in root.rglob("*.png")
            ],
            "hold 0 and 255 alone",
        ),
        (lambda root: (root / "masks").rename(root / "targets"), "holds images, targets"),
        (lambda root: [f.unlink() for f in (root / "images").rglob("*.jpg")], "no image in"),
    ],
)
def test_masks_that_are_wrong(folder, change, found):
    assert len(open_segmented(folder).paths) == 2
    change(folder)
    with pytest.raises(SeaAnchorError, match=found):
        open_segmented(folder)


def test_grey_masks_stored_as_colours_and_spare_masks(folder):
    save_mask(folder / "masks" / "a.png", np.dstack([scaled(SQUARE)] * 3))
    save_mask(folder / "masks" / "z.png", scaled(SQUARE))
    images = open_segmented(folder)
    assert np.array_equal(classes_of(images, 0), scaled(SQUARE))
    assert images.refused == ("masks/z.png has no image",)


def test_masks_are_of_images_as_they_are_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    (tmp_path / "images").mkdir()
    Image.new("RGB", (30, 40)).save(tmp_path / "images" / "a.jpg", exif=exif)
    save_mask(tmp_path / "masks" / "a.png", scaled(SQUARE))
    assert read_mask(open_segmented(tmp_path, Path("a,b,c")), 0, 30).shape == (30, 30)
    save_mask(tmp_path / "masks" / "a.png", scaled(SQUARE.T))
    with pytest.raises(SeaAnchorError, match=r"30 × 40 pixels, and a.jpg 40 × 30"):
        open_segmented(tmp_path, Path("a,b,c"))


def test_another_number_for_no_class(folder):
    for file in (folder / "masks").rglob("*.png"):
        stored = np.asarray(Image.open(file))
        save_mask(file, np.where(stored == 255, 3, stored).astype(np.uint8))
    images = open_segmented(folder, ignore_index=3)
    assert (read_mask(images, 0, Preprocessing(40, "longest")) == 3).sum() == 200 + 400
    with pytest.raises(SeaAnchorError, match="ignore_index is 300"):
        open_segmented(folder, ignore_index=300)


def test_annotations_that_are_no_pictures_are_no_masks(tmp_path):
    save_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 1 1\n")
    assert not has_masks(tmp_path) and not has_masks(tmp_path / "images")
    save_mask(tmp_path / "labels" / "a.png", scaled(SQUARE))
    assert has_masks(tmp_path)
