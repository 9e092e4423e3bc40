"""Shards as CLIP_benchmark keeps them: what another library reads in them we read too, and damage costs what it touches
and no more."""

import io
import pickle
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
import webdataset
from PIL import Image

from seaanchor.data.folder import list_images
from seaanchor.data.images import name_below, num_bytes
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset, training_order
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, UnlabelledImages
from seaanchor.data.webdataset.read import list_shards
from seaanchor.data.webdataset.tar import index_shard
from seaanchor.data.webdataset.write import build_shards
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.zeroshot import labelled


def jpeg(colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12, 10), (colour, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of four images, two classes, the shards' numbers as colours."""
    root = tmp_path / "wds" / "two"
    for number in range(3):
        write_tar(
            root / "test" / f"{number}.tar",
            [m for i in range(4) for m in ((f"s{i}.jpg", jpeg(60 * number + i)), (f"s{i}.cls", str(i % 2).encode()))],
        )
    (root / "test" / "nshards.txt").write_text("3\n")
    (root / "classnames.txt").write_text("red fox\nzebra\n")
    (root / "zeroshot_classification_templates.txt").write_text("a {c}.\nthe {c}.\n")
    return root


def read(images: Images, workers: int = 0, order=None):
    log = SkipLog(images)
    return list(batches(ImageDataset(images, 8), 5, workers=workers, order=order, skip_log=log)), log


def test_layout(shards):
    images = list_shards(shards)
    assert len(images.paths) == 12
    assert images.labels == (0, 1, 0, 1) * 3
    assert images.class_names == ("red fox", "zebra")
    assert images.templates == ("a {}.", "the {}.")
    assert images.refused == ()
    assert [name_below(item, images.root) for item in images.paths[3:5]] == ["0.tar/s3.jpg", "1.tar/s0.jpg"]
    assert num_bytes(images.paths[0]) == len(jpeg(0))


@pytest.mark.parametrize("source", ["", "test", "test/1.tar"])
def test_sources(shards, source):
    images = open_images(str(shards / source), split="test")
    assert len(images.paths) == (4 if source.endswith("tar") else 12)
    assert images.class_names == ("red fox", "zebra")
    assert images.templates is not None


def test_any_order_in_any_number_of_processes_gives_the_same_pixels(shards):
    images = list_shards(shards)
    order = training_order(12, 0, 0)
    (straight, _), (shuffled, log), (worked, _) = (
        read(images),
        read(images, order=order),
        read(images, workers=2, order=order),
    )
    assert torch.cat([b.index_B for b in shuffled]).tolist() == order
    pixels = torch.cat([b.pixels_BCHW for b in straight])
    assert torch.equal(torch.cat([b.pixels_BCHW for b in shuffled]), pixels[order])
    assert torch.equal(torch.cat([b.pixels_BCHW for b in worked]), pixels[order])
    assert torch.cat([b.label_B for b in worked]).tolist() == [images.labels[i] for i in order]
    assert not log.summary()


def test_reads_what_webdataset_reads(shards):
    theirs = webdataset.WebDataset([str(shards / "test" / f"{i}.tar") for i in range(3)], shardshuffle=False).to_tuple(
        "jpg", "cls"
    )
    images = list_shards(shards)
    ours = [(item.open().read(), str(label).encode()) for item, label in zip(images.paths, images.labels, strict=True)]
    assert ours == list(theirs)


def test_names_are_read_as_webdataset_splits_them(tmp_path):
    members = [
        ("a/x.y.jpg", b"0"),
        ("a/x.cls", b"1"),
        ("a/b.c/z.JPG", jpeg(3)),
        ("a/b.c/z.cls", b" 1\n"),
        ("README", b"text"),
        ("only.json", b"{}"),
    ]
    write_tar(tmp_path / "0.tar", members)
    samples, damage = index_shard(tmp_path / "0.tar")
    assert damage == []
    assert [(s.key, s.image and s.image.member, s.label) for s in samples] == [
        ("a/x", None, "1"),
        ("a/b.c/z", "a/b.c/z.JPG", "1"),
    ]


def test_items_pickle_and_compare(shards):
    images = list_shards(shards)
    assert pickle.loads(pickle.dumps(images)) == images


@pytest.mark.parametrize(
    "damage", ["garbage", "cut in a member", "cut between members", "broken header", "empty", "missing", "compressed"]
)
def test_a_damaged_shard_in_the_middle_is_named_and_the_rest_is_read(shards, damage):
    shard = shards / "test" / "1.tar"
    data = bytearray(shard.read_bytes())
    third = index_shard(shard)[0][2].image.offset  # type: ignore[union-attr]
    if damage == "garbage":
        shard.write_bytes(b"garbage" * 999)
    elif damage == "cut in a member":
        shard.write_bytes(data[: third + 100])
    elif damage == "cut between members":
        shard.write_bytes(data[: third - 512])
    elif damage == "broken header":
        data[third - 512 : third] = b"x" * 512
        shard.write_bytes(data)
    elif damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(b"" if damage == "empty" else b"\x1f\x8b" + bytes(data))
    images = list_shards(shards)
    got, log = read(images, workers=2 if damage == "garbage" else 0)
    before = 2 if "cut" in damage or "header" in damage else 0
    assert len(images.paths) == 8 + before
    assert sum(len(b.index_B) for b in got) == 8 + before
    assert images.refused == () and images.damaged.shards == 3
    assert log.summary().startswith(
        f"1 of 3 shards in {shards / 'test'} are missing or damaged, with an unknown number of images (1.tar is "
    )
    assert ("after 2 images" in log.summary()) == (before > 0)
    assert "1 of 3 shards" in SkipLog(subset(images, 4, 0)).summary()


def test_lost_shards_and_unreadable_images_are_counted_apart(shards):
    (shards / "test" / "1.tar").unlink()
    write_tar(shards / "test" / "2.tar", [("a.jpg", b"no picture"), ("a.cls", b"0"), ("b.jpg", jpeg(2))])
    _, log = read(list_shards(shards))
    assert log.summary().startswith("2 of 6 images in ") and "; 1 of 3 shards in " in log.summary()


def test_classes_without_images_are_told_once(shards, capsys):
    list_shards(shards)
    assert capsys.readouterr().err == ""
    (shards / "classnames.txt").write_text("fox\nhorse\nyak\ngnu\n")
    for _ in range(2):
        list_shards(shards)
    assert capsys.readouterr().err == f"note: 2 of 4 classes have no image in {shards}: yak, gnu\n"


def test_a_shard_that_is_cut_after_it_was_listed(shards):
    images = list_shards(shards)
    shard = shards / "test" / "2.tar"
    shard.write_bytes(shard.read_bytes()[:1000])
    _, log = read(images)
    assert "4 of 12 images" in log.summary()
    assert "2.tar/s0.jpg: OSError: 2.tar ends inside it" in log.summary()


def test_members_without_a_class_and_numbers_out_of_range_are_named(shards):
    members = [
        ("a.jpg", jpeg(1)),
        ("a.cls", b"0"),
        ("b.jpg", jpeg(2)),
        ("c.jpg", jpeg(3)),
        ("c.cls", b"1_0"),
        ("d.jpg", jpeg(4)),
        ("d.cls", b"-1"),
        ("e.jpg", jpeg(5)),
        ("e.cls", b"zebra"),
        ("f.cls", b"1"),
        ("g.jpg", b"no picture"),
        ("g.cls", b"1"),
        ("readme.txt", b"hello"),
    ]
    write_tar(shards / "test" / "1.tar", members)
    images = list_shards(shards)
    assert images.refused == (
        "1.tar/b has no class number",
        "1.tar/c: '1_0' is no class number",
        "1.tar/d: class -1",
        "1.tar/e: 'zebra' is no class number",
        "1.tar/f has no image",
    )
    got, log = read(images)
    assert sum(len(b.index_B) for b in got) == 9
    assert log.summary().startswith("6 of 15 images")
    assert subset(images, 4, 0).refused == images.refused


def test_without_class_names_the_images_are_unlabelled_unless_names_are_given(shards):
    (shards / "classnames.txt").unlink()
    assert isinstance(list_shards(shards), UnlabelledImages)
    assert len(list_shards(shards).paths) == 12
    named = list_shards(shards, Path("fox,striped horse,yak"))
    assert named.class_names == ("fox", "striped horse", "yak")
    assert named.labels == (0, 1) * 6
    assert len(list_shards(shards, Path("fox,zebra")).paths) == 12


def test_given_class_names_must_fit_the_data_sets_own(shards, tmp_path):
    assert list_shards(shards, Path("a,b")).class_names == ("a", "b")
    (tmp_path / "names.json").write_text('{"zebra": "horse", "red fox": "dog"}')
    assert list_shards(shards, tmp_path / "names.json").class_names == ("dog", "horse")
    with pytest.raises(SeaAnchorError, match="'c' is a class without images"):
        list_shards(shards, Path("a,b,c"))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda root: shutil.move(root / "test", root / "train"), "holds the splits train"),
        (lambda root: (root / "test" / "nshards.txt").write_text("0"), "no image in"),
        (lambda root: (root / "test" / "nshards.txt").write_text("many"), "says 'many'"),
        (lambda root: (root / "dataset_type.txt").write_text("retrieval\n"), "a data set for retrieval"),
        (
            lambda root: [(root / "test" / f"{i}.tar").write_bytes(b"") for i in range(3)],
            "no image in .*0.tar is damaged or cut short",
        ),
        (
            lambda root: (root / "zeroshot_classification_templates.txt").write_text("a photo"),
            "'a photo' of .* has no {}",
        ),
    ],
)
def test_what_cannot_be_read_at_all(shards, change, found):
    change(shards)
    with pytest.raises(SeaAnchorError, match=found):
        open_images(str(shards), split="test")


def test_a_missing_tar(tmp_path):
    with pytest.raises(SeaAnchorError, match=r"1\.tar is missing, and no source is called"):
        open_images(str(tmp_path / "1.tar"))


def test_shards_without_a_count_come_in_the_order_of_their_numbers(shards):
    (shards / "test" / "nshards.txt").unlink()
    for number in range(3, 11):
        shutil.copy(shards / "test" / "0.tar", shards / "test" / f"{number}.tar")
    assert list(dict.fromkeys(item.shard.name for item in list_shards(shards).paths)) == [f"{i}.tar" for i in range(11)]


def test_a_folder_of_images_with_a_tar_beside_them_stays_a_folder(image_folder):
    write_tar(image_folder / "all.tar", [("s.jpg", jpeg(1))])
    assert len(open_images(str(image_folder)).paths) == 12


def test_built_shards_read_as_the_folder_they_come_from(image_folder, tmp_path):
    folder = list_images(image_folder)
    build_shards(folder, tmp_path / "out")
    shards = list_shards(tmp_path / "out")
    assert (shards.labels, shards.class_names) == (folder.labels, folder.class_names)
    for ours, theirs in zip(read(shards)[0], read(folder)[0], strict=True):
        assert torch.equal(ours.pixels_BCHW, theirs.pixels_BCHW)


def test_shards_of_several_splits_in_one_folder(tmp_path):
    for i, name in enumerate(("set-train-00.tar", "set-train-01.tar", "set-validation-00.tar", "._set-train-00.tar")):
        members = [("a.jpg", jpeg(i)), ("a.cls", b"0"), ("b.jpg", jpeg(i)), ("b.cls", b"1")]
        write_tar(tmp_path / "set" / name, members)
    (tmp_path / "set" / "classnames.txt").write_text("cat\ndog\n")
    with pytest.raises(SeaAnchorError, match="holds shards of the splits train, val") as caught:
        open_images(str(tmp_path / "set"))
    pattern = str(tmp_path / "set" / "set-train-*.tar")
    assert pattern in caught.value.change
    images = open_images(pattern)
    assert [item.shard.name for item in images.paths] == ["set-train-00.tar"] * 2 + ["set-train-01.tar"] * 2
    assert images.labels == (0, 1, 0, 1)
    with pytest.raises(SeaAnchorError, match=r"other-\*\.tar is the name of no tar"):
        open_images(str(tmp_path / "set" / "other-*.tar"))


def test_folders_of_splits_in_other_spellings(shards):
    shutil.move(shards / "test", shards / "Testing")
    shutil.copytree(shards / "Testing", shards / "val2")
    assert len(open_images(str(shards), split="test").paths) == 12
    with pytest.raises(SeaAnchorError, match="holds the splits Testing, val2"):
        open_images(str(shards), split="train")


def test_texts_as_labels_are_class_names(tmp_path):
    for number, names in enumerate((["Zebra", "fox"], ["fox", "zebra "])):
        members = [m for i, name in enumerate(names) for m in ((f"{i}.jpg", jpeg(i)), (f"{i}.cls", name.encode()))]
        write_tar(tmp_path / "test" / f"{number}.tar", members)
    (tmp_path / "classnames.txt").write_text("fox\nyak\nzebra\n")
    assert list_shards(tmp_path).labels == (2, 0, 0, 2)
    assert list_shards(tmp_path, Path("a fox,a yak,a zebra")).class_names == ("a fox", "a yak", "a zebra")
    (tmp_path / "classnames.txt").write_text("fox\nyak\n")
    with pytest.raises(SeaAnchorError, match="has the classes Zebra, zebra, which its list lacks"):
        list_shards(tmp_path)
    (tmp_path / "classnames.txt").unlink()
    (tmp_path / "test" / "1.tar").unlink()
    assert list_shards(tmp_path).class_names == ("Zebra", "fox")


def test_a_name_that_comes_again_is_another_sample(tmp_path):
    members = [
        ("a.jpg", jpeg(1)),
        ("b.jpg", jpeg(2)),
        ("a.cls", b"1"),
        ("b.cls", b"0"),
        ("a.jpg", jpeg(3)),
        ("a.cls", b"0"),
    ]
    write_tar(tmp_path / "0.tar", members)
    samples, damage = index_shard(tmp_path / "0.tar")
    assert [(s.key, s.label) for s in samples] == [("a", "1"), ("b", "0"), ("a", "0")] and damage == []
    assert samples[0].image != samples[2].image


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"red fox\n", "class 1 has images and no name: 6 of 12 images"),
        (b"red fox\n\nzebra\n", "line 2 of .*classnames.txt is blank"),
        (b"red fox\n\xff\n", "classnames.txt could not be read"),
    ],
)
def test_lists_of_classes_that_do_not_fit(shards, content, found):
    (shards / "classnames.txt").write_bytes(content)
    with pytest.raises(SeaAnchorError, match=found):
        list_shards(shards)


@pytest.mark.parametrize(
    "content", [b"red fox\r\nzebra\r\n\r\n", b"\xef\xbb\xbfred fox\nzebra", b" red fox \rzebra\n\n\n"]
)
def test_lists_of_classes_of_other_systems(shards, content):
    (shards / "classnames.txt").write_bytes(content)
    assert list_shards(shards).class_names == ("red fox", "zebra")


def test_numbers_that_begin_at_one_and_end_early_are_told(shards, capsys):
    members = [m for i in (1, 2) for m in ((f"{i}.jpg", jpeg(i)), (f"{i}.cls", str(i).encode()))]
    for number in range(3):
        write_tar(shards / "test" / f"{number}.tar", members)
    with pytest.raises(SeaAnchorError) as caught:
        list_shards(shards)
    assert "begin at 1" in caught.value.change
    (shards / "classnames.txt").write_text("red fox\nzebra\nyak\n")
    list_shards(shards)
    assert "if its class numbers begin at 1, all names are one off" in capsys.readouterr().err


def test_images_of_other_endings_in_a_tar(tmp_path):
    members = [
        ("a.heic", jpeg(1)),
        ("a.cls", b"0"),
        ("b.jfif", jpeg(2)),
        ("b.cls", b"1"),
        ("c.heic", b"ftyp"),
        ("c.cls", b"0"),
    ]
    members += [("d.txt", jpeg(1)), ("d.cls", b"0"), ("e.depth", b"\xff\xd8\xff"), ("e.png", jpeg(3)), ("e.cls", b"1")]
    write_tar(tmp_path / "0.tar", members)
    images = list_shards(tmp_path / "0.tar", Path("x,y"))
    assert [item.member for item in images.paths] == ["a.heic", "b.jfif", "e.png"] and images.labels == (0, 1, 1)
    assert images.refused == ("0.tar/c has no image", "0.tar/d has no image")
    assert ImageDataset(images, 8)[0].reason == ""
    with pytest.raises(SeaAnchorError, match="has no class names"):
        labelled(str(tmp_path / "0.tar"), None, None, 0)


@pytest.mark.parametrize("text", ["²", "-1", "1.5", "9" * 30, ""])
def test_a_number_of_shards_that_is_none(text, tmp_path):
    (tmp_path / "nshards.txt").write_text(text)
    with pytest.raises(SeaAnchorError, match=r"nshards.txt says"):
        list_shards(tmp_path)
