"""Preference data: JSON lines, columns, swapped words; and what is wrong with a row is said."""

import json

import pytest
from PIL import Image

from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches
from seaanchor.data.preferences import as_images, from_columns, read_preferences, swapped_captions, write_preferences
from seaanchor.errors import SeaAnchorError
from seaanchor.wording import swap_words, word_pairs


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
        folder, {"image": "a.png", "chosen": "a dog", "rejected": "a cat"},
        {"image": "b.png", "text": "a cat", "desirable": True}, {"image": "b.png", "completion": "a dog", "label": 0},
    )  # fmt: skip
    images = read_preferences(file)
    assert images.class_names == ("a dog", "a cat")
    assert images.pairs == ((0, 1), (1, -1), (-1, 0))
    batch = next(batches(FolderDataset(images, 8), 3, workers=0, order=[2, 0, 1], skip_log=SkipLog(images)))
    assert batch.preference.chosen_B.tolist() == [-1, 0, 1] and batch.preference.rejected_B.tolist() == [0, 1, -1]


def test_written_and_read_again(folder):
    images = read_preferences(write(folder, {"image": "a.png", "chosen": "x", "rejected": "y"}, {"image": "b.png", "text": "y", "desirable": False}))
    write_preferences(images, folder / "again.jsonl")
    assert read_preferences(folder / "again.jsonl") == images


@pytest.mark.parametrize(
    "row",
    [
        "no json", {"chosen": "a", "rejected": "b"}, {"image": "a.png", "chosen": "a"}, {"image": "a.png", "chosen": "a", "rejected": "a"},
        {"image": "a.png", "text": "a"}, {"image": "a.png", "text": "", "desirable": True}, {"image": "a.png", "text": "a", "desirable": "yes"},
        {"image": "a.png", "chosen": 3, "rejected": "b"}, "[1]",
    ],
)  # fmt: skip
def test_a_bad_line_is_named(folder, row):
    with pytest.raises(SeaAnchorError, match="line 2"):
        read_preferences(write(folder, {"image": "a.png", "chosen": "a", "rejected": "b"}, row))


def test_missing_image_missing_file_and_no_rows(folder):
    with pytest.raises(SeaAnchorError, match=r"gone\.png is missing"):
        read_preferences(write(folder, {"image": "gone.png", "chosen": "a", "rejected": "b"}))
    with pytest.raises(SeaAnchorError, match="could not be read"):
        read_preferences(folder / "none.jsonl")
    with pytest.raises(SeaAnchorError, match="no preference"):
        read_preferences(write(folder, ""))


def test_columns_with_pictures(folder):
    rows = from_columns([{"image": Image.new("RGB", (4, 4)), "chosen": "a", "rejected": "b"}], folder / "saved")
    assert rows[0].image.is_file() and as_images(rows, folder, "test").pairs == ((0, 1),)
    with pytest.raises(SeaAnchorError, match="row 0"):
        from_columns([{"image": "a.png", "caption": "a"}], folder)


def test_swapping_keeps_capitals_and_whole_words():
    pairs = word_pairs()
    assert swap_words("The man and his mantle; Men", pairs) == "The woman and her mantle; Women"
    assert swap_words(swap_words("a woman is running", pairs), pairs) == "a woman is running"
    assert swap_words("a tree", pairs) == "a tree"


def test_swapped_captions_and_flip(folder):
    images = ImageList(folder, (folder / "a.png", folder / "b.png"), (0, 1), ("a man runs", "a tree"))
    plain, flipped = (swapped_captions(images, word_pairs(), flip=flip) for flip in (False, True))
    assert plain.paths == flipped.paths == (folder / "a.png",)
    (chosen, rejected), = plain.pairs
    assert (plain.class_names[chosen], plain.class_names[rejected]) == ("a man runs", "a woman runs")
    (chosen, rejected), = flipped.pairs
    assert (flipped.class_names[chosen], flipped.class_names[rejected]) == ("a woman runs", "a man runs")
    with pytest.raises(SeaAnchorError, match="no caption"):
        swapped_captions(ImageList(folder, (folder / "a.png",), (0,), ("a tree",)), word_pairs())


def test_word_pair_files(tmp_path):
    (tmp_path / "pairs.txt").write_text("cat dog # comment\n\nred blue\n")
    assert word_pairs(tmp_path / "pairs.txt") == (("cat", "dog"), ("red", "blue"))
    (tmp_path / "bad.txt").write_text("one two three\n")
    with pytest.raises(SeaAnchorError, match="two words a line"):
        word_pairs(tmp_path / "bad.txt")
    with pytest.raises(SeaAnchorError, match="missing"):
        word_pairs(tmp_path / "none.txt")
