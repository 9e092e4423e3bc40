"""Tables of the `datasets` library, made here and read from disk."""

import builtins
import os
import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from seaanchor.data.folder import list_images
from seaanchor.data.huggingface.preferences import open_rows
from seaanchor.data.images import name_below, num_bytes
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, UnlabelledImages
from seaanchor.errors import SeaAnchorError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(image_folder: Path, **columns):
    """The images of `image_folder`, each class's number beside it."""
    images = list_images(image_folder)
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["apple", "red fox", "zebra"])}
    data = {
        "image": [{"bytes": p.read_bytes(), "path": None} for p in images.paths],
        "label": list(images.labels),
    } | columns
    features |= {
        name: datasets.Value("string" if isinstance(values[0], str) else "int64") for name, values in columns.items()
    }
    return datasets.Dataset.from_dict(data, features=datasets.Features(features))


def read(images: Images, workers: int = 0):
    log = SkipLog(images)
    return list(batches(ImageDataset(images, 8), 5, workers=workers, order=None, skip_log=log)), log


def stored(kind: str, data, folder: Path) -> str:
    """Write a table and name it as a source."""
    folder.mkdir(exist_ok=True)
    if kind == "saved":
        data.save_to_disk(str(folder / "saved"))
        return f"hf-data:{folder / 'saved'}"
    if kind == "parquet":
        data.to_parquet(str(folder / "data.parquet"))
        return str(folder / "data.parquet")
    if kind == "splits":
        datasets.DatasetDict({"train": data.select(range(min(3, len(data)))), "test": data}).save_to_disk(
            str(folder / "splits")
        )
        return str(folder / "splits")
    (folder / "parquets").mkdir()
    data.to_parquet(str(folder / "parquets" / "test-00000-of-00001.parquet"))
    data.select(range(3)).to_parquet(str(folder / "parquets" / "train-00000-of-00001.parquet"))
    return f"hf-data:{folder / 'parquets'}"


@pytest.mark.parametrize("kind", ["saved", "parquet", "splits", "parquets"])
def test_a_table_reads_as_the_folder_it_was_made_of(image_folder, tmp_path, kind):
    folder = list_images(image_folder)
    images = open_images(stored(kind, table(image_folder), tmp_path), split="test")
    shutil.rmtree(image_folder / "apple")  # the table holds the bytes
    assert (images.labels, images.class_names) == (folder.labels, folder.class_names)
    assert [name_below(item, images.root) for item in images.paths] == [str(i) for i in range(12)]
    assert all(str(item).startswith(str(images.root)) for item in images.paths)
    got, log = read(images, workers=2)
    assert not log.summary()
    assert [num_bytes(item) for item in images.paths[4:]] == [path.stat().st_size for path in folder.paths[4:]]
    theirs = torch.cat([ImageDataset(folder, 8)[i].pixels_CHW[None] for i in range(4, 12)]).float() / 255
    assert torch.equal(torch.cat([b.pixels_BCHW for b in got])[4:], theirs)


def test_splits(image_folder, tmp_path):
    source = stored("splits", table(image_folder), tmp_path)
    assert len(open_images(f"hf-data:{source}", split="train").paths) == 3
    assert len(open_images(f"hf-data:{source}:test", split="train").paths) == 12
    for named, split in ((f"hf-data:{source}:val", "test"), (f"hf-data:{source}", "val")):
        with pytest.raises(SeaAnchorError, match="holds the splits train, test"):
            open_images(named, split=split)
    with pytest.raises(SeaAnchorError, match="this data set has none"):
        open_images(stored("saved", table(image_folder), tmp_path) + ":test")


def test_texts_as_labels_are_class_names(image_folder, tmp_path):
    data = table(image_folder).remove_columns("label").add_column("label", ["yak"] * 4 + ["ant"] * 8)
    images = open_images(stored("saved", data, tmp_path))
    assert images.class_names == ("ant", "yak")
    assert images.labels == (1,) * 4 + (0,) * 8


def test_numbers_without_names_need_names(image_folder, tmp_path):
    source = stored(
        "parquet", table(image_folder).remove_columns("label").add_column("label", [0, 1, -1, 1] * 3), tmp_path
    )
    assert isinstance(open_images(source), UnlabelledImages)
    images = open_images(source, Path("a,b"))
    assert images.labels == (0, 1, 1) * 3
    assert images.refused == ("row 2: class -1", "row 6: class -1", "row 10: class -1")
    assert read(images)[1].summary().startswith("3 of 12 images")
    with pytest.raises(SeaAnchorError, match="is missing"):
        open_images(source, tmp_path / "none.txt")


def test_class_numbers_without_a_name_are_an_error(image_folder, tmp_path):
    data = table(image_folder).remove_columns("label").add_column("label", [1, 2, 3] * 4)
    source = stored("parquet", data, tmp_path)
    with pytest.raises(SeaAnchorError, match="class 3 has images and no name: 4 of 12 images") as caught:
        open_images(source, Path("a,b,c"))
    assert "begin at 1" in caught.value.change
    assert open_images(source, Path("none,a,b,c")).labels == (1, 2, 3) * 4


@pytest.mark.parametrize("named", ["texts", "class labels"])
def test_numbers_as_names_take_a_list_in_the_order_of_numbers(image_folder, tmp_path, capsys, named):
    """Sorted as texts, 10 and 11 come before 2, which is how the library numbers them."""
    data = table(image_folder).remove_columns("label").add_column("label", [str(i) for i in range(12)])
    data = data.class_encode_column("label") if named == "class labels" else data
    source = stored("saved", data, tmp_path)
    names = ["nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    images = open_images(source, tmp_path / "names.txt")
    assert [images.class_names[label] for label in images.labels] == names
    assert capsys.readouterr().err == ""
    images = open_images(source)
    assert [images.class_names[label] for label in images.labels] == [str(i) for i in range(12)]
    assert "are called by numbers" in capsys.readouterr().err


def test_labels_that_are_no_whole_numbers_are_refused(image_folder, tmp_path):
    data = table(image_folder).remove_columns("label").add_column("label", [0.0, 1.0, 1.5] * 4)
    images = open_images(stored("parquet", data, tmp_path), Path("a,b"))
    assert images.labels == (0, 1) * 4
    assert images.refused[0] == "row 2: '1.5' is no class number"


def test_rows_that_hold_no_picture_are_counted(image_folder, tmp_path):
    (image_folder / "apple" / "0.jpg").write_bytes(b"no picture")
    images = open_images(stored("saved", table(image_folder), tmp_path))
    got, log = read(images)
    assert sum(len(b.index_B) for b in got) == 11
    assert "1 of 12" in log.summary()
    assert "row 0: UnidentifiedImageError" in log.summary()


def test_items_pickle(image_folder, tmp_path):
    images = open_images(stored("saved", table(image_folder), tmp_path))
    again = pickle.loads(pickle.dumps(images))
    assert again == images
    assert again.paths[3].open().read() == images.paths[3].open().read()
    assert len(pickle.dumps(images)) < 10_000  # the table is opened again, not sent


def test_tables_that_are_none(image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="has the columns label"):
        open_images(stored("saved", table(image_folder).remove_columns("image"), tmp_path / "labels"))
    for kind in ("parquet", "saved", "splits"):
        with pytest.raises(SeaAnchorError, match="is empty"):
            open_images(stored(kind, table(image_folder).select(range(0)), tmp_path / kind), split="test")


def test_pictures_that_a_table_names_by_path(image_folder, tmp_path):
    paths = [str(p) for p in list_images(image_folder).paths]
    data = datasets.Dataset.from_dict({"img": paths}, features=datasets.Features({"img": datasets.Image()}))
    images = open_images(stored("parquet", data, tmp_path))
    assert isinstance(images, UnlabelledImages)
    (image_folder / "zebra" / "3.jpg").unlink()
    assert "1 of 12" in read(images)[1].summary()


@pytest.mark.parametrize(
    "source",
    ["hf-data:", "hf-data:a:b:c:d", "hf-data:a::b", "hf-data:someone/nothing-else"],
)
def test_sources_that_are_not_there(source):
    with pytest.raises(SeaAnchorError, match=r"is no name of a data set|could not be opened"):
        open_images(source)


@pytest.mark.parametrize("source", ["missing.parquet", "hf-data:missing.jsonl", "hf-data:./folder", "hf-data:/a/b/c"])
def test_a_missing_file_is_called_so_and_nobody_is_asked(source, capsys):
    with pytest.raises(SeaAnchorError, match=r"(missing\.parquet|missing\.jsonl|\./folder|/a/b/c) is missing"):
        open_images(source)
    with pytest.raises(SeaAnchorError, match=r"missing\.csv is missing"):
        open_rows("some/missing.csv", "image", None, None)
    assert "Hub" not in capsys.readouterr().err


def test_without_the_library(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "datasets":
            raise ImportError("No module named 'datasets'")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SeaAnchorError, match="library datasets is not installed") as caught:
        open_images("hf-data:someone/something")
    assert "seaanchor[data]" in caught.value.change


def test_a_row_names_only_regular_files_below_its_table(image_folder, tmp_path):
    (tmp_path / "set").mkdir()
    os.mkfifo(tmp_path / "set" / "pipe")
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(image_folder / "zebra" / "0.jpg", tmp_path / "set" / name)
    names = [
        "a.jpg",
        "b.jpg",
        "../images/zebra/1.jpg",
        str(image_folder / "zebra" / "2.jpg"),
        "pipe",
        "https://127.0.0.1:9/a.jpg",
    ]
    pq.write_table(pa.table({"image": names}), tmp_path / "set" / "rows.parquet")
    assert "4 of 6" in read(open_images(tmp_path / "set" / "rows.parquet"))[1].summary()
