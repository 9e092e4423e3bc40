"""Shards that are written: the same bytes each time, whole or not at all, and what another library sees in them."""

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from seaanchor.cli.app import main
from seaanchor.data.folder import list_images
from seaanchor.data.images import read_image
from seaanchor.data.loader import ImageDataset
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.data.types import UnlabelledImages
from seaanchor.data.webdataset.read import list_shards
from seaanchor.data.webdataset.write import build_shards
from seaanchor.errors import SeaAnchorError


def contents(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


def test_layout_and_bytes(image_folder, tmp_path):
    images = list_images(image_folder)
    built = build_shards(images, tmp_path / "a", shard_size=5, templates=["a {}.", "the {}."])
    for path in images.paths:
        os.utime(path, (1, 1))
    build_shards(images, tmp_path / "b", shard_size=5, templates=["a {}.", "the {}."])
    found = contents(tmp_path / "a")
    assert (built.images, built.shards, built.skipped) == (12, 3, "")
    assert found == contents(tmp_path / "b")
    assert sorted(found) == [
        "classnames.txt",
        "test/0.tar",
        "test/1.tar",
        "test/2.tar",
        "test/nshards.txt",
        "zeroshot_classification_templates.txt",
    ]
    assert found["classnames.txt"] == b"apple\nred fox\nzebra\n"
    assert found["zeroshot_classification_templates.txt"] == b"a {c}.\nthe {c}.\n"
    assert int(found["test/nshards.txt"]) == 3
    assert list_shards(tmp_path / "a").templates == ("a {}.", "the {}.")


def odd_images(folder: Path) -> None:
    """Pictures that readers show differently: transparent, 16 bits, rotated, animated, of a format that is not read,
    broken."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    plain, alpha = Image.fromarray(pixels), rng.integers(0, 256, (20, 30), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.save(folder / "plain.png")
    plain.save(folder / "webp.jpg", "WEBP", lossless=True)  # its ending is wrong
    plain.save(folder / "rotated.jpg", exif=exif)
    plain.save(folder / "bitmap.bmp")
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    plain.convert("P").save(folder / "palette.gif")
    Image.fromarray(np.dstack([pixels, alpha])).save(folder / "transparent.png")
    Image.fromarray(alpha.astype(np.uint16) * 257).save(folder / "deep.png")
    plain.save(folder / "frames.webp", save_all=True, append_images=[plain.rotate(90)], lossless=True)
    (folder / "broken.jpg").write_bytes((folder / "rotated.jpg").read_bytes()[:300])


def test_what_readers_show_differently_becomes_what_we_see(image_folder, tmp_path):
    odd_images(image_folder / "yak")
    images = list_images(image_folder)
    built = build_shards(images, tmp_path / "out")
    assert built.images == len(images.paths) - 1
    assert "1 of 22 images" in built.skipped
    assert "broken.jpg" in built.skipped
    theirs = list(
        webdataset.WebDataset(str(tmp_path / "out" / "test" / "0.tar"), shardshuffle=False).to_tuple(
            "png;jpg;webp", "cls"
        )
    )
    readable = [path for path in images.paths if path.name != "broken.jpg"]
    assert len(theirs) == len(readable)
    for path, (data, label) in zip(readable, theirs, strict=True):
        with Image.open(io.BytesIO(data)) as image:
            side = min(image.size)
            stream = io.BytesIO()
            image.convert("RGB").save(stream, "PNG")
            (tmp_path / "seen.png").write_bytes(stream.getvalue())
        assert torch.equal(read_image(tmp_path / "seen.png", side), read_image(path, side)), path.name
        assert int(label) == images.class_names.index(path.parent.name.replace("_", " "))
        kept = path.suffix in (".jpg", ".png") and path.name not in (
            "rotated.jpg",
            "transparent.png",
            "deep.png",
        )
        assert (data == path.read_bytes()) == kept, path.name


def test_image_size(image_folder, tmp_path):
    images = list_images(image_folder)
    build_shards(images, tmp_path / "out", image_size=16)
    small, whole = ImageDataset(list_shards(tmp_path / "out"), 16), ImageDataset(images, 16)
    assert len(small) == 12
    for i in range(12):
        assert torch.equal(small[i].pixels_CHW, whole[i].pixels_CHW)


def test_image_size_for_models_that_squash(image_folder, tmp_path, run):
    how = Preprocessing(16, "squash", "bilinear")
    build = ("data", "build", "--data", image_folder, "--output", tmp_path / "out")
    assert run(*build, "--image-size", 16, "--preprocess", "resize_mode=squash,interpolation=bilinear")[0] == 0
    small, whole = ImageDataset(list_shards(tmp_path / "out"), how), ImageDataset(list_images(image_folder), how)
    assert all(torch.equal(small[i].pixels_CHW, whole[i].pixels_CHW) for i in range(12))
    for wrong in (("--preprocess", "resize_mode=squash"), ("--image-size", 16, "--preprocess", "mean=0.5")):
        code, _, errors = run(*build, *wrong)
        assert code == 2 and "settings of pixels alone" in errors


def test_palettes_and_ink_are_stored_as_they_are(image_folder, tmp_path):
    """A picture is read from shards as from its own file also where it is resized before its colours are converted."""
    odd_images(image_folder / "yak")
    images = list_images(image_folder)
    build_shards(images, tmp_path / "out")
    theirs, ours = ImageDataset(list_shards(tmp_path / "out"), 16), ImageDataset(images, 16)
    mine = [sample.pixels_CHW for i in range(len(ours)) if (sample := ours[i]).pixels_CHW is not None]
    assert len(mine) == len(theirs)
    assert all(torch.equal(theirs[i].pixels_CHW, pixels_CHW) for i, pixels_CHW in enumerate(mine))


def test_a_second_split_joins_the_first(image_folder, tmp_path):
    images = list_images(image_folder)
    build_shards(images, tmp_path / "out", "train")
    build_shards(images, tmp_path / "out")
    assert len(list_shards(tmp_path / "out", split="train").paths) == 12
    with pytest.raises(SeaAnchorError, match="test exists"):
        build_shards(images, tmp_path / "out")
    with pytest.raises(SeaAnchorError, match=r"classnames\.txt differs"):
        build_shards(replace(images, class_names=("a", "b", "c")), tmp_path / "out", "val")


@pytest.mark.parametrize(
    ("classes", "settings", "found"),
    [
        (False, {}, "has no classes"),
        (True, {"shard_size": 0}, "shards of 0"),
        (True, {"image_size": 0}, "image size 0"),
        (True, {"split": "../up"}, "split '../up'"),
    ],
)
def test_what_is_not_built(image_folder, tmp_path, classes, settings, found):
    images = list_images(image_folder)
    if not classes:
        images = UnlabelledImages(images.root, images.paths)
    with pytest.raises(SeaAnchorError, match=found):
        build_shards(images, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_a_build_that_fails(image_folder, tmp_path):
    images = list_images(image_folder)
    for path in images.paths:
        path.write_bytes(b"")
    with pytest.raises(SeaAnchorError, match=r"no image in .* could be read"):
        build_shards(images, tmp_path / "out")
    assert contents(tmp_path / "out") == {}
    (tmp_path / "file").write_text("")
    with pytest.raises(SeaAnchorError, match="is a file"):
        build_shards(images, tmp_path / "file")


def test_a_build_that_was_killed_is_begun_anew(image_folder, tmp_path):
    (tmp_path / "out" / ".test.partial").mkdir(parents=True)
    (tmp_path / "out" / ".test.partial" / "7.tar").write_bytes(b"half")
    build_shards(list_images(image_folder), tmp_path / "out")
    assert [f.name for f in (tmp_path / "out").iterdir() if f.name.startswith(".")] == []
    assert sorted(f.name for f in (tmp_path / "out" / "test").iterdir()) == ["0.tar", "nshards.txt"]


def test_the_command(image_folder, tmp_path, monkeypatch, capsys):
    arguments = [
        "--data",
        str(image_folder),
        "--shard-size",
        "6",
        "--class-names",
        "a,b,c",
        "--templates",
        "simple-imagenet",
        "--split",
        "val",
    ]
    monkeypatch.setattr("sys.argv", ["seaanchor", "data", "build", "--output", str(tmp_path / "out"), *arguments])
    main()
    assert "12 images in 2 shard(s)" in capsys.readouterr().out
    images = list_shards(tmp_path / "out", split="val")
    assert images.class_names == ("a", "b", "c")
    assert len(images.templates) == 7
    with tarfile.open(tmp_path / "out" / "val" / "1.tar") as archive:
        assert archive.getnames()[:2] == ["s0000006.jpg", "s0000006.cls"]
