"""The `datasets` library, opened in one way by what reads images and what imports preferences."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seaanchor.data.files import file_below
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.plain_files import parse_json, parse_yaml

SAVED = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` leaves
READERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}
FRONT_MATTER = re.compile(r"---\s*\n(.*?)\n---", re.DOTALL)
FILE_KEYS = ("data_files", "data_dir", "_data_files", "filename", "splits")
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def library() -> Any:
    """The module, without progress bars, without a warning for every attempt to reach the Hub, and without a call to a
    public server that counts what is opened here.

    Raises:
        SeaAnchorError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise SeaAnchorError(
            f"the library datasets is not installed ({error})", "extra `data`", "pip install 'seaanchor[data]'"
        ) from error
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    return datasets


def is_saved(path: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any(os.path.isfile(path / file) for file in SAVED)


def check_there(name: str) -> None:
    """Fail where a name is that of a file or folder and nothing is there, before the library or the Hub is asked.

    Raises:
        SeaAnchorError: it is missing.
    """
    path = Path(name)
    if not os.path.exists(path) and (path.suffix.lower() in READERS or not HUB_NAME.fullmatch(name)):
        raise SeaAnchorError(
            f"{name} is missing",
            f"a file ending in {', '.join(READERS)}, a folder, or a name on the Hub such as someone/something",
            "correct the path",
        )


def check_inside(folder: Path) -> None:
    """Fail where a folder of tables says that its files are elsewhere, on this disk or at an address.

    Raises:
        SeaAnchorError: it does, or says it in a way that cannot be read.
    """
    try:
        named = [(file, _read_plain(file)) for file in _descriptions(folder)]
        card = folder / "README.md"
        if card.is_file() and (front := FRONT_MATTER.match(card.read_text(encoding="utf-8-sig"))):
            named.append((card, parse_yaml(front[1])))
    except (OSError, ValueError) as error:
        raise SeaAnchorError(
            f"what {folder} says of its files could not be read ({type(error).__name__})", "YAML or JSON", "correct it"
        ) from error
    for file, said in named:
        for text in _files_named(said):
            if "://" in text or "::" in text or text.startswith(("/", "~")) or ".." in Path(text).parts:
                raise SeaAnchorError(
                    f"{file} names {text!r} as a file of its data set", "files below the folder", "correct it"
                )


def _descriptions(folder: Path) -> list[Path]:
    """The files in which `save_to_disk` and the Hub say what files there are."""
    names = (*SAVED, "state.json", ".huggingface.yaml")
    return [file for name in names for file in (folder / name, *folder.glob(f"*/{name}")) if file.is_file()]


def _read_plain(file: Path) -> Any:
    return parse_json(file.read_text()) if file.suffix == ".json" else parse_yaml(file.read_text())


def _files_named(said: Any) -> Iterator[str]:
    """The texts below the keys that hold names of files or of folders."""
    if isinstance(said, list):
        for item in said:
            yield from _files_named(item)
    elif isinstance(said, dict):
        for key, value in said.items():
            yield from _texts(value) if key in FILE_KEYS else _files_named(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def load(name: str, config: str | None = None, split: str | None = None, *, streaming: bool = False) -> Any:
    """A table, or a dictionary of splits.

    Args:
        name: a folder written by `save_to_disk`; a file of one of `READERS`, or a folder of such; or a name on the Hub.
        config: where a data set has several.
        split: asked of the Hub, so that no other is fetched; None for all.
        streaming: row by row, nothing converted; what was saved is not.

    Raises:
        SeaAnchorError: the library or the file is missing, or it is a file of another kind.
        Exception: whatever the library and its connections raise.
    """
    check_there(name)
    datasets, path = library(), Path(name)
    if path.is_dir():
        check_inside(path)
    if is_saved(path):
        return datasets.load_from_disk(name)
    if path.is_file():  # one file is one table, whatever the library calls its split
        if path.suffix.lower() not in READERS:
            raise SeaAnchorError(
                f"{name} is a file of another kind", f"one ending in {', '.join(READERS)}, or a folder", "convert it"
            )
        return datasets.load_dataset(READERS[path.suffix.lower()], data_files=name, split="train", streaming=streaming)
    if not path.exists() and HUB_NAME.fullmatch(name):
        note(f"there is no file {name} here; asking the Hugging Face Hub")
    return datasets.load_dataset(name, config, split=None if path.is_dir() else split, streaming=streaming)


def read_stored(name: str, base: Path | str) -> bytes:
    """A regular file below the folder of the rows, or in an archive there; of a data set on the Hub, what the library
    names in it (`zip://a.jpg::hf://...`).

    Args:
        name: as the row says it.
        base: the folder, or the name of the data set on the Hub.

    Raises:
        ValueError: it is none of these, or could not be read.
    """
    import fsspec

    place: Path | str = name
    if isinstance(base, str):
        if not re.fullmatch(rf"(zip://[^:]+::)?hf://datasets/{re.escape(base)}[@/][^:]+", name) or ".." in name:
            raise ValueError(f"its image {name[:80]!r} is no file of the data set")
    else:
        inner, _, outer = name.rpartition("::")
        if inner and not re.fullmatch(r"zip://[^:]+", inner):
            raise ValueError(f"its image {name[:80]!r} is an address; only pictures and files are read")
        place = file_below(outer, base)
        place = f"{inner}::{place.absolute()}" if inner else place
    try:
        with place.open("rb") if isinstance(place, Path) else fsspec.open(place, "rb") as file:
            return file.read()
    except Exception as error:  # local, archive and network files each fail in their own way
        raise ValueError(f"its image {name} could not be read ({type(error).__name__})") from error
