"""Names that are no UTF-8: files may have them and are read, listed and counted; classes cannot."""

import json
import os
import sys
import tarfile
from pathlib import Path

import pytest

from seaanchor.config.recipes import fare
from seaanchor.data.folder import list_images
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.preference_rows import PreferenceRow, as_images, read_preferences, write_preferences
from seaanchor.data.sources import open_images
from seaanchor.data.webdataset.write import build_shards
from seaanchor.errors import SeaAnchorError, note, printable
from seaanchor.evaluation.images import listing
from seaanchor.evaluation.run import Protocol, evaluate_all
from seaanchor.training.run import train

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
FOREIGN = os.fsdecode(b"caf\xe9")


@pytest.fixture
def folder(image_folder: Path) -> Path:
    """Twelve good images, one of a foreign name, and a broken one of such a name."""
    (image_folder / "apple" / "0.jpg").rename(image_folder / "apple" / f"{FOREIGN}.jpg")
    (image_folder / "apple" / f"{FOREIGN}-broken.jpg").write_bytes(b"no picture")
    return image_folder


def test_files_are_read_and_named(folder):
    images = list_images(folder)
    log = SkipLog(images)
    got = list(batches(ImageDataset(images, 8), 5, workers=1, order=None, skip_log=log))
    assert sum(len(batch.index_B) for batch in got) == 12
    assert "1 of 13 images" in log.summary() and "caf\\xe9-broken.jpg: Unidentified" in log.summary()
    log.summary().encode()
    assert listing(images) == listing(list_images(folder))
    before = listing(images)
    (folder / "apple" / f"{FOREIGN}.jpg").rename(folder / "apple" / os.fsdecode(b"caf\xe8.jpg"))
    assert listing(list_images(folder)) != before


def test_a_class_of_such_a_name_is_an_error_unless_it_is_given_another(folder):
    (folder / "zebra").rename(folder / FOREIGN)
    with pytest.raises(SeaAnchorError, match=r"the class name 'caf\\xe9' of .* is not UTF-8") as caught:
        open_images(folder)
    str(caught.value).encode()
    assert open_images(folder, Path("a,coffee,r")).class_names == ("a", "coffee", "r")


def test_names_in_shards(folder, tmp_path):
    build_shards(list_images(folder), tmp_path / "out")
    assert len(open_images(tmp_path / "out", split="test").paths) == 12
    with tarfile.open(tmp_path / "own.tar", "w") as archive:
        for i, (member, content) in enumerate(
            [(f"{FOREIGN}.jpg", folder / "apple" / "1.jpg"), (f"{FOREIGN}.cls", b"0")]
        ):
            source = tmp_path / f"{i}"
            source.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
            archive.add(source, member)
    images = open_images(tmp_path / "own.tar", Path("a,b"))
    assert images.labels == (0,) and len(listing(images)) == 16
    assert ImageDataset(images, 8)[0].reason == ""
    (tmp_path / "classnames.txt").write_bytes(b"caf\xe9\nb\n")
    with pytest.raises(SeaAnchorError, match=r"classnames\.txt could not be read"):
        open_images(tmp_path / "own.tar")


def test_preferences_of_such_images_come_back(folder, tmp_path):
    image = folder / "apple" / f"{FOREIGN}.jpg"
    write_preferences(as_images([PreferenceRow(image, "a café", "a bar")], folder, "test"), folder / "rows.jsonl")
    again = read_preferences(folder / "rows.jsonl")
    assert again.paths == (image,) and again.texts == ("a café", "a bar")
    (folder / "rows.jsonl").write_text(json.dumps({"image": "apple/1.jpg", "chosen": "\ud83d", "rejected": "a bar"}))
    with pytest.raises(SeaAnchorError, match="chosen holds half a character"):
        read_preferences(folder / "rows.jsonl")


def test_evaluation_and_training(folder, tmp_path, clip_folder, tiny_run):
    result = evaluate_all([f"local-dir:{clip_folder}"], [str(folder)], Protocol(()), tmp_path / "results")[0]
    assert result.clean is not None and result.clean.n == 12 and "caf\\xe9-broken.jpg" in result.skipped
    (file,) = (tmp_path / "results").glob("*.json")
    assert json.loads(file.read_text())["skipped"] == result.skipped
    train(tiny_run(fare()))
    assert (tmp_path / "run" / "export").is_dir()


def test_what_is_said_can_be_printed(capsys):
    assert printable("caf\u00e9 " + FOREIGN + " \ud83d") == "caf\u00e9 caf\\udce9 \\ud83d"
    assert printable(FOREIGN) == "caf\\xe9" and printable("caf\u00e9") == "caf\u00e9"
    note(f"a note on {FOREIGN}")
    assert "a note on caf\\xe9" in capsys.readouterr().err


def test_control_characters_of_names_are_written_out(capsys, run, image_folder):
    assert printable("a\x1b[2Jb\x07\x9b\r\u202e\tc\nd") == "a\\x1b[2Jb\\x07\\x9b\\r\\u202e\tc\nd"
    assert "\x1b" not in str(SeaAnchorError("\x1b[31m", "", "")) and printable("naïve 日本語 🙂") == "naïve 日本語 🙂"
    (image_folder / "apple" / "\x1b]0;title\x07.jpg").write_bytes(b"no image")
    code, out, errors = run("data", "inspect", image_folder)
    assert code == 0 and "\\x1b]0;title\\x07.jpg" in out
    assert "\x1b" not in out + errors
