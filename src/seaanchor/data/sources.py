"""Where images come from: a folder, shards, a table, or one of the embedded sets by name."""

import os
from collections.abc import Sequence
from pathlib import Path

from seaanchor.data.folder import list_images
from seaanchor.data.huggingface.images import is_table, list_rows
from seaanchor.data.people import open_people
from seaanchor.data.places import EMBEDDED, check_there, place_of
from seaanchor.data.preference_rows import read_preferences
from seaanchor.data.types import ClassifiedImages, Images, PreferenceImages
from seaanchor.data.typographic.read import is_lettered, list_lettered
from seaanchor.data.webdataset.read import is_shards, list_shards
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import disk_error


def open_images(source: str | Path, class_names: Path | None = None, split: str = "train") -> Images:
    """List the images of a folder, of shards, of a table or of an embedded set.

    Args:
        source: a folder (also of `label=X_text=Y` images); a tar, or a folder of them in CLIP_benchmark's layout;
            `hf-data:NAME`, as `seaanchor.data.huggingface.images` reads it; a JSON lines file of preferences; or
            `photos`, `photos-mini`, `emoji`, `emoji-people` (captions as classes), with `/train` or `/test` to name the
            split, of `photos` also `/validation`.
        class_names: names for the classes, as `read_class_names` takes them.
        split: which part is meant where the source holds several and does not say.

    Raises:
        SeaAnchorError: no such source, nothing to read in it, or class names for one that names its classes itself.
    """
    source = str(source)
    if not source or len(os.fsencode(Path(source).name)) > 255:
        raise SeaAnchorError(
            f"{source[:80]!r} is no name of images", "a folder, a file or another source", "correct it"
        )
    try:
        return _opened(source, class_names, split)
    except OSError as error:  # a folder that may be listed and not entered, and the like
        raise disk_error(error) from error


def _opened(source: str, class_names: Path | None, split: str) -> Images:
    name, _, part = source.partition("/")
    if class_names is not None and _names_itself(source):
        found = f"{source} with class names from {class_names}"
        raise SeaAnchorError(
            found,
            "class folders, shards or tables: here file names or captions name the classes",
            "leave --class-names out",
        )
    if is_table(source):
        return list_rows(source, class_names, split)
    if name == "emoji-people" and not Path(source).exists():
        return open_people(EMBEDDED / name, part or split).images
    if source.endswith(".jsonl"):
        return read_preferences(Path(source))
    check_there(source, split)
    root = place_of(source, split)
    if is_shards(root):
        return list_shards(root, class_names, split)
    return list_lettered(root) if is_lettered(root) else list_images(root, class_names)


def image_folder(path: str | Path, class_names: str | Path | Sequence[str] | None = None) -> Images:
    """List a folder of images (unlabelled) or of class folders (labelled).

    Args:
        path: the folder.
        class_names: C names in the sorted order of the class folders, by number where all of them are numbers; or a
            file of names, as `read_class_names` takes it; by default the folders' own names, `_` read as a space.

    Raises:
        SeaAnchorError: no such folder, nothing in it, a class folder without images, a folder of splits, or another
            number of names.
    """
    images = list_images(Path(path), Path(class_names) if isinstance(class_names, str) else class_names)
    if class_names is not None and not isinstance(images, ClassifiedImages):
        raise SeaAnchorError(f"class names for {path}, which has no class folders", "class folders", "leave them out")
    return images


def preferences(path: str | Path) -> PreferenceImages:
    """List the preferences of a JSON lines file, as `seaanchor.data.preference_rows.read_preferences` does.

    Args:
        path: the file. A row names an image, relative to the file, and `chosen` and `rejected` texts, or one `text`
            with `desirable` true or false.

    Raises:
        SeaAnchorError: missing or empty file, a line that is no row, an image that is not there.
    """
    return read_preferences(Path(path))


def _names_itself(source: str) -> bool:
    """Whether the texts of a source are its own, so that no list could rename them."""
    people = source.partition("/")[0] == "emoji-people" and not Path(source).exists()
    return not is_table(source) and (people or source.endswith(".jsonl") or is_lettered(Path(source)))
