"""Preference data: JSON lines, swapped words; and what is wrong with a row is said."""

import json
import os

import pytest
from PIL import Image

from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.preference_rows import (
    PreferenceRow,
    Tally,
    as_images,
    read_preferences,
    swapped_captions,
    tally,
    write_preferences,
)
from seaanchor.data.types import ClassifiedImages, PreferenceImages
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.text import check_distinct, swap_words, word_pairs


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return tmp_path


def write(folder, *rows):
    file = folder / "rows.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def test_triplets_and_unpaired_rows_become_pairs_of_text_numbers(folder):
    file = write(
        folder,
        {"image": "a.png", "chosen": "a dog", "rejected": "a cat"},
        {"image": "b.png", "text": "a cat", "desirable": True},
        {"image": "b.png", "completion": "a dog", "label": 0},
    )
    images = read_preferences(file)
    assert images.texts == ("a dog", "a cat")
    assert images.pairs == ((0, 1), (1, -1), (-1, 0))
    batch = next(batches(ImageDataset(images, 8), 3, workers=0, order=[2, 0, 1], skip_log=SkipLog(images)))
    assert batch.preference.chosen_B.tolist() == [-1, 0, 1] and batch.preference.rejected_B.tolist() == [0, 1, -1]


def test_written_and_read_again(folder):
    images = read_preferences(
        write(
            folder,
            {"image": "a.png", "chosen": "x", "rejected": "y"},
            {"image": "b.png", "text": "y", "desirable": False},
        )
    )
    write_preferences(images, folder / "again.jsonl")
    assert read_preferences(folder / "again.jsonl") == images


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("no json", "is not JSON: Expecting value at character 1 of 'no json'"),
        ('{"image": "a.png",', "is not JSON"),
        ({"chosen": "a", "rejected": "b"}, "no image among chosen, rejected"),
        ({"image": 3, "chosen": "a", "rejected": "b"}, "image is 3, not a path"),
        ({"image": "a.png", "chosen": "a"}, "rejected is missing"),
        ({"image": "a.png", "chosen": "a", "rejected": None}, "rejected is missing"),
        ({"image": "a.png", "chosen": "a", "rejected": "a"}, "are the same text"),
        ({"image": "a.png", "chosen": "A  dog", "rejected": "a dog"}, "the same but for capitals or spaces"),
        ({"image": "a.png", "text": "a"}, "text without desirable"),
        ({"image": "a.png", "text": "", "desirable": True}, "text is missing or empty"),
        ({"image": "a.png", "text": "a", "desirable": "yes"}, "desirable is 'yes', not true or false"),
        ({"image": "a.png", "label": True}, "neither chosen and rejected nor text among image, label"),
        ({"image": "a.png", "chosen": 3, "rejected": "b"}, "chosen is 3, not a text"),
        ("[1]", r"\[1\] is no object"),
    ],
)
def test_a_bad_line_is_named_and_so_is_what_is_wrong_with_it(folder, row, found):
    with pytest.raises(SeaAnchorError, match="line 2.*" + found):
        read_preferences(write(folder, {"image": "a.png", "chosen": "a", "rejected": "b"}, row))


def test_a_byte_order_mark_and_empty_columns_do_no_harm(folder):
    file = folder / "rows.jsonl"
    file.write_text(
        "\ufeff"
        + json.dumps({"image": "a.png", "chosen": None, "rejected": None, "text": "a", "desirable": False})
        + "\n\n",
        encoding="utf-8",
    )
    assert read_preferences(file).pairs == ((-1, 0),)


def test_texts_that_only_differ_in_capitals_or_spaces_are_one(folder):
    images = as_images(
        [PreferenceRow(folder, "A dog", "a cat"), PreferenceRow(folder, "a  cat", "a dog")], folder, "test"
    )
    assert images.texts == ("A dog", "a cat") and images.pairs == ((0, 1), (1, 0))


def test_kinds_of_rows_are_counted():
    assert tally([(0, 1), (0, -1), (-1, 0), (2, -1)]) == Tally(paired=1, desirable=2, undesirable=1)
    assert [tally(pairs).one_sided for pairs in ([(0, -1)], [(-1, 0)], [(0, -1), (-1, 1)], [(0, 1), (0, -1)])] == [
        True,
        True,
        False,
        False,
    ]


def test_missing_image_missing_file_and_no_rows(folder):
    with pytest.raises(SeaAnchorError, match=r"gone\.png is missing"):
        read_preferences(write(folder, {"image": "gone.png", "chosen": "a", "rejected": "b"}))
    (folder / "long.jsonl").write_text(json.dumps({"image": "é" * 200, "chosen": "a", "rejected": "b"}))
    with pytest.raises(SeaAnchorError, match=r"long\.jsonl, line 1: .* is missing"):
        read_preferences(folder / "long.jsonl")
    with pytest.raises(SeaAnchorError, match=r"none\.jsonl is missing"):
        read_preferences(folder / "none.jsonl")
    with pytest.raises(SeaAnchorError, match="no preference"):
        read_preferences(write(folder, ""))


def test_a_file_that_cannot_be_written_and_images_that_are_no_files(folder):
    images = read_preferences(write(folder, {"image": "a.png", "chosen": "x", "rejected": "y"}))
    with pytest.raises(SeaAnchorError, match="could not be written"):
        write_preferences(images, folder / "a.png" / "rows.jsonl")
    with pytest.raises(SeaAnchorError, match="is no file of its own"):
        write_preferences(PreferenceImages(folder, ("row 3",), ("x", "y"), ((0, 1),)), folder / "rows.jsonl")


def test_names_are_told_apart_as_a_model_would():
    check_distinct(("red fox", "redfox", "fox"))
    name = "red fox"
    for second in (name, "Red fox", "red  fox"):
        with pytest.raises(SeaAnchorError, match=r"twice: .*red +fox"):
            check_distinct((name, "zebra", second))


def test_swapping_keeps_capitals_and_whole_words():
    pairs = word_pairs()
    assert swap_words("The man and his mantle; Men", pairs) == "The woman and her mantle; Women"
    assert swap_words(swap_words("a woman is running", pairs), pairs) == "a woman is running"
    assert swap_words("a tree", pairs) == "a tree"


def test_swapped_captions_and_flip(folder):
    images = ClassifiedImages(folder, (folder / "a.png", folder / "b.png"), (0, 1), ("a man runs", "a tree"))
    plain, flipped = (swapped_captions(images, word_pairs(), flip=flip) for flip in (False, True))
    assert plain.paths == flipped.paths == (folder / "a.png",)
    ((chosen, rejected),) = plain.pairs
    assert (plain.texts[chosen], plain.texts[rejected]) == ("a man runs", "a woman runs")
    ((chosen, rejected),) = flipped.pairs
    assert (flipped.texts[chosen], flipped.texts[rejected]) == ("a woman runs", "a man runs")
    with pytest.raises(SeaAnchorError, match="no caption"):
        swapped_captions(ClassifiedImages(folder, (folder / "a.png",), (0,), ("a tree",)), word_pairs())


def test_word_pair_files(tmp_path):
    (tmp_path / "pairs.txt").write_text("cat dog # comment\n\nred blue\n")
    assert word_pairs(tmp_path / "pairs.txt") == (("cat", "dog"), ("red", "blue"))
    (tmp_path / "bad.txt").write_text("one two three\n")
    with pytest.raises(SeaAnchorError, match="two words a line"):
        word_pairs(tmp_path / "bad.txt")
    with pytest.raises(SeaAnchorError, match="missing"):
        word_pairs(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes("caf\xe9 bar\n".encode("latin-1"))
    with pytest.raises(SeaAnchorError, match=r"latin\.txt"):
        word_pairs(tmp_path / "latin.txt")


@pytest.mark.parametrize(
    "name", ["up", "absolute", "pipe", "device", "https://a.b/a.png", "zip://a.png::https://a.b/c.zip"]
)
def test_a_row_names_only_regular_files_below_its_folder(folder, name):
    inside = folder / "inside"
    inside.mkdir()
    os.mkfifo(inside / "pipe")
    written = {"up": "../a.png", "absolute": str(folder / "a.png"), "device": "/dev/zero"}.get(name, name)
    with pytest.raises(SeaAnchorError, match=r"leads out of|is an address|is no regular file"):
        read_preferences(write(inside, {"image": written, "chosen": "x", "rejected": "y"}))


def test_images_that_lie_elsewhere_are_put_beside_the_file(folder):
    images = read_preferences(write(folder, {"image": "a.png", "chosen": "x", "rejected": "y"}))
    file = folder / "deep" / "pairs.jsonl"
    write_preferences(images, file)
    write_preferences(images, file)  # over what is there
    (image,) = read_preferences(file).paths
    assert image.parent == folder / "deep" / "pairs-images" and image.read_bytes() == (folder / "a.png").read_bytes()
    assert json.loads(file.read_text())["image"] == f"pairs-images/{image.name}"
