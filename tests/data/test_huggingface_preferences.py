"""Columns of a Hugging Face data set to a folder that training reads: every form it may have on disk, and every way it
may be wrong."""

import io
import json
import os
import sys
import tracemalloc
import zipfile
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from seaanchor.data.huggingface.library import read_stored
from seaanchor.data.huggingface.preferences import FILE, Columns, Imported, from_columns, import_preferences, open_rows
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.preference_rows import read_preferences
from seaanchor.errors import SeaAnchorError

datasets.disable_progress_bars()


@pytest.fixture
def photos(tmp_path):
    """Six different small pictures as files, the last a PNG."""
    (tmp_path / "photos").mkdir()
    files = []
    for i in range(6):
        file = tmp_path / "photos" / (f"{i}.jpg" if i < 5 else "5.png")
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(file)
        files.append(str(file))
    return files


@pytest.fixture
def table(photos):
    rows = {
        "image": photos,
        "chosen": ["a dog"] * 6,
        "rejected": [f"a {word}" for word in ("cat", "cow", "ant", "cat", "bee", "fox")],
    }
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def saved(table, form, folder):
    """The table in one of the forms it may have on disk: what names it, and how many rows to expect."""
    if form == "save_to_disk":
        table.save_to_disk(folder / "set")
        return folder / "set", {}
    if form == "splits":
        datasets.DatasetDict({"a": table.select([0]), "b": table}).save_to_disk(folder / "set")
        return folder / "set", {"split": "b"}
    if form == "parquet":
        table.to_parquet(folder / "set.parquet")
        return folder / "set.parquet", {}
    if form == "folder of parquet":
        (folder / "set").mkdir()
        table = table.with_format("arrow").map(datasets.table.embed_table_storage, batched=True).with_format(None)
        table.to_parquet(folder / "set" / "train-00000.parquet")
        table.select([0]).to_parquet(folder / "set" / "test-00000.parquet")
        return folder / "set", {}
    rows = [
        {"image": f"photos/{path.rpartition('/')[2]}", "chosen": row["chosen"], "rejected": row["rejected"]}
        for path, row in paths_and_rows(table)
    ]
    (folder / "set.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "set.json", {}


def paths_and_rows(table):
    for row in table.cast_column("image", datasets.Image(decode=False)):
        yield row["image"]["path"], row


@pytest.mark.parametrize("form", ["save_to_disk", "splits", "parquet", "folder of parquet", "json"])
def test_every_form_on_disk_gives_the_same_preferences_and_the_pictures_as_they_were(table, photos, tmp_path, form):
    source, settings = saved(table, form, tmp_path)
    done = import_preferences(str(source), tmp_path / "out", **settings)
    assert done.tally.paired == done.pictures == 6 and done.left_out == 0
    images = read_preferences(tmp_path / "out" / FILE)
    assert [(images.texts[c], images.texts[r]) for c, r in images.pairs] == list(
        zip(table["chosen"], table["rejected"], strict=True)
    )
    assert [path.read_bytes() for path in images.paths] == [Path(photo).read_bytes() for photo in photos]
    assert {path.suffix for path in images.paths} == {".jpg", ".png"} and all(
        path.parent == tmp_path / "out" / "images" for path in images.paths
    )
    assert len(next(batches(ImageDataset(images, 8), 6, workers=0, order=None, skip_log=SkipLog(images))).index_B) == 6
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", FILE]


def test_unpaired_rows_under_other_names(photos, tmp_path):
    rows = {"pic": photos[:3], "words": ["a dog", "a cat", "a dog"], "good": [1, 0, 1]}
    datasets.Dataset.from_dict(rows).cast_column("pic", datasets.Image()).to_parquet(tmp_path / "set.parquet")
    done = import_preferences(
        str(tmp_path / "set.parquet"), tmp_path / "out", Columns("pic", text="words", label="good"), samples=2
    )
    assert (done.tally.desirable, done.tally.undesirable) == (1, 1)
    assert read_preferences(tmp_path / "out" / FILE).pairs == ((0, -1), (-1, 1))


def test_bad_rows_are_left_out_and_told(photos, tmp_path):
    good = {"image": photos[0], "chosen": "a dog", "rejected": "a cat"}
    bad = [
        good | {"rejected": "A dog"},
        good | {"chosen": None},
        good | {"image": None},
        good | {"image": "gone.jpg"},
        good | {"image": b"no picture"},
        good | {"image": "https://example.org/a.jpg"},
        good | {"image": 3},
    ]
    done = Imported()
    (tmp_path / "images").mkdir()
    rows = list(from_columns([good, *bad, good], tmp_path / "images", done=done, base=Path(photos[0]).parent))
    assert len(rows) == 2 and rows[0] == rows[1] and done.pictures == 1  # one picture, however many rows name it
    assert (
        done.left_out == len(bad)
        and len(done.reasons) == 3
        and done.reasons[0].startswith("row 1: chosen 'a dog' and rejected 'A dog'")
    )
    with pytest.raises(SeaAnchorError, match=r"gone\.jpg' is missing"):
        (tmp_path / "bad.jsonl").write_text(json.dumps(bad[3]))
        import_preferences(str(tmp_path / "bad.jsonl"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../photos/0.jpg",
        "/etc/hostname",
        "/dev/zero",
        "pipe",
        "a folder",
        "https://127.0.0.1:9/a.jpg",
        "zip://a.jpg::https://127.0.0.1:9/a.zip",
        "simplecache::https://127.0.0.1:9/a.jpg",
        "filecache::photos/0.jpg",
        "file:///etc/hostname",
        "hf://datasets/someone/something/a.jpg",
    ],
)
def test_a_row_of_a_local_table_names_only_regular_files_below_it(photos, tmp_path, name):
    """Nothing is opened: the port would answer with an error of another kind, and a pipe would wait for ever."""
    folder = Path(photos[0]).parent
    os.mkfifo(folder / "pipe")
    (folder / "a folder").mkdir()
    with pytest.raises(ValueError, match=r"leads out of|is an address|no regular file"):
        read_stored(name, folder)
    rows = [{"image": name, "chosen": "a dog", "rejected": "a cat"}, {"image": "0.jpg", "chosen": "b", "rejected": "c"}]
    (folder / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = import_preferences(str(folder / "set.jsonl"), tmp_path / "out")
    assert done.left_out == 1 and done.pictures == 1


def test_what_lies_in_an_archive_beside_the_table_is_read(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(photos[0], "a.jpg")
    assert read_stored("zip://a.jpg::all.zip", tmp_path) == Path(photos[0]).read_bytes()
    assert read_stored(f"zip://a.jpg::{tmp_path}/all.zip", tmp_path) == Path(photos[0]).read_bytes()
    with pytest.raises(ValueError, match="leads out of"):
        read_stored("zip://a.jpg::../all.zip", tmp_path / "photos")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("hf://datasets/one/two@abc/a.jpg", True),
        ("zip://a.jpg::hf://datasets/one/two@abc/a.zip", True),
        ("hf://datasets/one/other@abc/a.jpg", False),
        ("hf://datasets/one/two@abc/../../other/a.jpg", False),
        ("zip://a.jpg::https://a.b/a.zip", False),
        ("zip://a.jpg::hf://datasets/one/two@abc/a.zip::https://a.b", False),
        ("/etc/hostname", False),
        ("images/a.jpg", False),
    ],
)
def test_of_a_set_on_the_hub_only_its_own_files_are_asked_for(monkeypatch, name, good):
    asked = []
    monkeypatch.setattr("fsspec.open", lambda place, mode: asked.append(place) or io.BytesIO(b"bytes"))
    if good:
        assert read_stored(name, "one/two") == b"bytes"
    else:
        with pytest.raises(ValueError, match="is no file of the data set"):
            read_stored(name, "one/two")
    assert asked == [name] * good


def test_wrong_columns_end_at_once_and_leave_nothing_behind(table, tmp_path):
    table.rename_column("chosen", "best").to_parquet(tmp_path / "set.parquet")
    with pytest.raises(SeaAnchorError, match="the columns are best, image, rejected") as caught:
        import_preferences(str(tmp_path / "set.parquet"), tmp_path / "out")
    assert "--chosen-column" in str(caught.value) and not (tmp_path / "out").exists()
    assert import_preferences(str(tmp_path / "set.parquet"), tmp_path / "out", Columns(chosen="best")).pictures == 6


def test_sources_and_splits_that_are_not_there(table, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no table")
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"a": table, "b": table}).save_to_disk(tmp_path / "two")
    for source, settings, found in (
        ("nobody/nothing", {}, "could not be read"),
        ("notes.txt", {}, "another kind"),
        ("broken.parquet", {}, "could not be read"),
        ("two", {}, "several splits\n.*one of a, b"),
        ("two", {"split": "c"}, "no split 'c'\n.*one of a, b"),
    ):
        with pytest.raises(SeaAnchorError, match=found):
            import_preferences(source if "/" in source else str(tmp_path / source), tmp_path / "out", **settings)
        assert not (tmp_path / "out").exists()


def test_a_folder_in_use_and_one_that_cannot_be_written(table, tmp_path):
    table.save_to_disk(tmp_path / "set")
    (tmp_path / "file").write_text("x")
    for output, found in (
        (tmp_path / "set", "is not empty"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "out", "could not be written"),
    ):
        with pytest.raises(SeaAnchorError, match=found):
            import_preferences(str(tmp_path / "set"), output)


def test_after_a_full_disk_the_same_command_goes_on(table, photos, tmp_path, monkeypatch):
    import errno

    table.save_to_disk(tmp_path / "set")
    write, written = type(tmp_path).write_bytes, []

    def fills_up(path, raw):
        written.append(path)
        if len(written) == 3:
            write(path, raw[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, raw)

    with monkeypatch.context() as patch, pytest.raises(SeaAnchorError, match="could not be written: No space left"):
        patch.setattr(type(tmp_path), "write_bytes", fills_up)
        import_preferences(str(tmp_path / "set"), tmp_path / "out")
    assert not (tmp_path / "out" / FILE).exists()
    import_preferences(str(tmp_path / "set"), tmp_path / "out")
    images = read_preferences(tmp_path / "out" / FILE)
    assert [path.read_bytes() for path in images.paths] == [Path(photo).read_bytes() for photo in photos]


def test_memory_does_not_grow_with_the_set(tmp_path):
    def peak(count):
        noise = Image.effect_noise((96, 96), 90)

        def rows():
            for i in range(count):
                picture = noise.copy()
                picture.putpixel((0, 0), i % 256)
                picture.putpixel((1, 0), i // 256)
                buffer = io.BytesIO()
                picture.save(buffer, "PNG")
                yield {"image": {"bytes": buffer.getvalue(), "path": None}, "chosen": f"text {i}", "rejected": "a cat"}

        folder = tmp_path / str(count)
        folder.mkdir()
        tracemalloc.start()
        assert sum(1 for _ in from_columns(rows(), folder)) == count == len(list(folder.iterdir()))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(5)
    few, many = peak(20), peak(400)
    assert many < few + 200_000, (few, many)  # 400 pictures of 9 kB would be 3.6 MB


def test_a_parquet_file_is_not_kept_in_memory_while_it_is_read(tmp_path):
    """Ten row groups of 2 MB: Arrow may hold a few that it reads ahead, not all of them."""
    group = pa.table(
        {"image": [os.urandom(20_000) for _ in range(100)], "chosen": ["a"] * 100, "rejected": ["b"] * 100}
    )
    with pq.ParquetWriter(tmp_path / "set.parquet", group.schema) as writer:
        for _ in range(10):
            writer.write_table(group)
    del group
    before = pa.total_allocated_bytes()
    rows, _ = open_rows(str(tmp_path / "set.parquet"), "image", None, None)
    held = [pa.total_allocated_bytes() - before for _ in rows]
    assert len(held) == 1000 and max(held) < 12e6, max(held)


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SeaAnchorError, match=r"seaanchor\[data\]"):
        import_preferences("nobody/nothing", tmp_path / "out")
