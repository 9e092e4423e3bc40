"""The `datasets` library, opened in one way by what reads images and what imports preferences."""

import logging
import re
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError, note

SAVED = ("dataset_info.json", "dataset_dict.json")  # what `save_to_disk` leaves
READERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv", ".arrow": "arrow"}
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def library() -> Any:
    """The module, without progress bars and without a warning for every attempt to reach the Hub.

    Raises:
        SeaAnchorError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise SeaAnchorError(
            f"the library datasets is not installed ({error})", "extra `data`", "pip install 'seaanchor[data]'"
        ) from error
    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    return datasets


def is_saved(path: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any((path / file).is_file() for file in SAVED)


def check_there(name: str) -> None:
    """Fail where a name is that of a file or folder and nothing is there, before the library or the Hub is asked.

    Raises:
        SeaAnchorError: it is missing.
    """
    path = Path(name)
    if not path.exists() and (path.suffix.lower() in READERS or not HUB_NAME.fullmatch(name)):
        raise SeaAnchorError(
            f"{name} is missing",
            f"a file ending in {', '.join(READERS)}, a folder, or a name on the Hub such as someone/something",
            "correct the path",
        )


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
