"""Which files below a folder are images: by ending, by content, through links."""

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from seaanchor.data.files import find_images
from seaanchor.data.folder import list_images
from seaanchor.data.loader import ImageDataset
from seaanchor.errors import SeaAnchorError


def picture(path: Path, form: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (200, 30, 30)).save(path, form)
    return path


@pytest.mark.parametrize("ending", [".jpg", ".JPEG", ".jfif", ".jpe", ".jif", ".heic", "", ".1", ".photo"])
def test_a_jpeg_of_any_ending_is_read(tmp_path, ending):
    picture(tmp_path / "cat" / f"a{ending}")
    picture(tmp_path / "dog" / "a.jpg")
    images = list_images(tmp_path)
    assert images.labels == (0, 1) and images.refused == ()
    assert ImageDataset(images, 8)[0].reason == ""


@pytest.mark.parametrize(
    ("form", "ending"),
    [("AVIF", ".avif"), ("JPEG2000", ".jp2"), ("PNG", ".apng"), ("PPM", ".pnm"), ("BMP", ".dib"), ("TIFF", ".TIF")],
)
@pytest.mark.parametrize("named", [True, False])
def test_other_formats_by_ending_and_most_by_content(tmp_path, form, ending, named):
    picture(tmp_path / "cat" / (f"a{ending}" if named else "a"), form)
    picture(tmp_path / "cat" / "b.jpg")
    images = list_images(tmp_path)
    if form == "PPM" and not named:
        assert images.refused == ("cat/a is no image of a kind that is read (no ending)",)
        return
    assert len(images.paths) == 2
    assert ImageDataset(images, 8)[0].pixels_CHW.float().mean((1, 2)).tolist() == pytest.approx([200, 30, 30], abs=3)


def test_what_looks_like_an_image_and_is_none_is_named(tmp_path):
    cat = tmp_path / "cat"
    picture(cat / "good.jpg")
    (cat / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    picture(cat / "b.nef", "TIFF")  # Pillow would read a thumbnail
    (cat / "c.jpg").symlink_to("/nowhere/c.jpg")
    (cat / "d.jpg").symlink_to("d.jpg")  # to itself
    os.mkfifo(cat / "e.jpg")
    (cat / "zero").write_bytes(b"")
    for left_out in ("notes.txt", "README", "boxes.json", "._a.jpg", ".hidden.jpg", "Thumbs.db"):
        (cat / left_out).write_bytes(b"x")
    found = find_images(cat)
    assert [path.name for path in found.images] == ["good.jpg"]
    assert found.refused == (
        "cat/a.heic is no image of a kind that is read (.heic)",
        "cat/b.nef is no image of a kind that is read (.nef)",
        "cat/c.jpg is a link to /nowhere/c.jpg, which is missing",
        "cat/d.jpg is a link to d.jpg, which is missing",
        "cat/e.jpg is no file",
        "cat/zero is no image of a kind that is read (no ending)",
    )
    assert list_images(tmp_path).refused == found.refused


def test_hidden_and_system_folders_are_not_looked_into(tmp_path):
    for folder in ("cat", "cat/.thumbnails", "cat/@eaDir", "__MACOSX/cat", ".cache/cat", "dog", "dog/a.jpg"):
        picture(tmp_path / folder / "x.jpg")
    images = list_images(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in images.paths] == ["cat/x.jpg", "dog/a.jpg/x.jpg", "dog/x.jpg"]
    assert images.class_names == ("cat", "dog")


def test_linked_folders_are_followed_and_loops_are_not(tmp_path, capsys):
    root, store = tmp_path / "root", tmp_path / "store"
    for name in ("cat", "dog"):
        for i in range(3):
            picture(store / name / f"{i}.jpg")
        picture(root / name / "own.jpg")
        (root / name / "linked").symlink_to(store / name)
    (root / "cat" / "again").symlink_to(store / "cat")  # the same images twice
    (store / "cat" / "loop").symlink_to(store / "cat")
    (root / "dog" / "up").symlink_to(root)  # all classes
    (root / "emu").symlink_to(picture(store / "emu" / "0.jpg").parent)
    images = list_images(root)
    assert images.labels == (0,) * 4 + (1,) * 4 + (2,)
    assert len({path.resolve() for path in images.paths}) == 9
    assert f"up leads back to {root}" in capsys.readouterr().err


def test_a_folder_that_a_link_puts_into_two_classes(tmp_path):
    picture(tmp_path / "cat" / "0.jpg")
    (tmp_path / "kitty").symlink_to(tmp_path / "cat")
    with pytest.raises(SeaAnchorError, match="the same images are in the classes cat and kitty"):
        list_images(tmp_path)


def test_a_class_whose_link_is_dead(tmp_path):
    picture(tmp_path / "cat" / "0.jpg")
    (tmp_path / "dog").symlink_to("/nowhere/dog")
    with pytest.raises(SeaAnchorError, match="dog is a link to /nowhere/dog, which is missing"):
        list_images(tmp_path)
    (tmp_path / "dog").unlink()
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "0.jpg").symlink_to("/nowhere/0.jpg")
    with pytest.raises(SeaAnchorError, match=r"without images: dog \(dog/0.jpg is a link to /nowhere/0.jpg"):
        list_images(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    picture(tmp_path / "cat" / "0.jpg")
    picture(tmp_path / "cat" / "deep" / "0.jpg")
    (tmp_path / "cat" / "deep").chmod(0)
    try:
        with pytest.raises(SeaAnchorError, match="deep cannot be read"):
            list_images(tmp_path)
    finally:
        (tmp_path / "cat" / "deep").chmod(0o700)


def test_loose_images_of_any_ending(tmp_path):
    picture(tmp_path / "a")
    picture(tmp_path / "b.jfif")
    shutil.copy(__file__, tmp_path / "code.py")
    (tmp_path / "c.psd").write_bytes(b"8BPS")
    images = list_images(tmp_path)
    assert [path.name for path in images.paths] == ["a", "b.jfif"]
    assert [reason.split("/")[-1] for reason in images.refused] == ["c.psd is no image of a kind that is read (.psd)"]
