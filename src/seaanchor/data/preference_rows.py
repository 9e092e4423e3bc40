"""Preference data: triplets and unpaired rows from JSON lines, from Hugging Face columns, and from captions with words
swapped.

A row names an image and either `chosen` and `rejected` texts, or one `text` (also `completion`, `caption`) that is
`desirable` (also `label`) or not.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaanchor.data.files import path_below
from seaanchor.data.images import Item
from seaanchor.data.types import Images, LabelledImages, PreferenceImages
from seaanchor.errors import SeaAnchorError, is_text
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json
from seaanchor.utils.plain_files import parse_json, read_text
from seaanchor.utils.text import plain, swap_words

TEXT, DESIRABLE = ("text", "completion", "caption"), ("desirable", "label")


@dataclass(frozen=True)
class PreferenceRow:
    """An image with a text that should win, one that should lose, or both."""

    image: Path
    chosen: str | None
    rejected: str | None


def read_preferences(file: Path) -> PreferenceImages:
    """Triplets and unpaired rows of a JSON lines file; image paths are relative to it, and lead to regular files below
    its folder.

    Returns:
        Images with the distinct texts, and the pair of each image as numbers of texts (−1: none).

    Raises:
        SeaAnchorError: missing or empty file, a line that is no row, an image that is not there.
    """
    lines = read_text(file, "a JSON lines file of preferences", "correct the path").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = to_row(parse_json(line), file.parent)
        except json.JSONDecodeError as error:
            raise SeaAnchorError(
                f"{file}, line {number} is not JSON: {error.msg} at character {error.pos + 1} of {_short(line)}",
                "one JSON object a line",
                "correct the line",
            ) from error
        except ValueError as error:
            raise SeaAnchorError(
                f"{file}, line {number}: {error}",
                "image with chosen and rejected, or with text and desirable",
                'write {"image": "a.jpg", "chosen": "a dog", "rejected": "a cat"}, or remove the line',
            ) from error
        if not os.path.isfile(row.image):  # false, too, for names that no disk takes
            reason = "no regular file" if os.path.exists(row.image) else "missing"
            raise SeaAnchorError(
                f"{file}, line {number}: {row.image} is {reason}",
                "an image file, relative to the JSON file",
                "correct the path",
            )
        rows.append(row)
    return as_images(rows, file.parent, str(file))


def to_row(data: Any, root: Path) -> PreferenceRow:
    """One row of plain data.

    Raises:
        ValueError: it is no preference; the message says why.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{_short(data)} is no object with names")
    data = {key: value for key, value in data.items() if value is not None}  # tables give every row every column
    if not isinstance(data.get("image"), str) or not data["image"]:
        raise ValueError(
            f"image is {_short(data['image'])}, not a path"
            if "image" in data
            else f"no image among {', '.join(map(str, data)) or 'no names'}"
        )
    image = path_below(data["image"], root)
    if "chosen" in data or "rejected" in data:
        chosen, rejected = (_text(key, data.get(key, "")) for key in ("chosen", "rejected"))
        if plain(chosen) == plain(rejected):
            same = "the same text" if chosen == rejected else "the same but for capitals or spaces"
            raise ValueError(f"chosen {_short(chosen)} and rejected {_short(rejected)} are {same}")
        return PreferenceRow(image, chosen, rejected)
    key = next((key for key in TEXT if key in data), None)
    if key is None:
        raise ValueError(f"neither chosen and rejected nor text among {', '.join(map(str, data))}")
    text, mark = _text(key, data[key]), next((key for key in DESIRABLE if key in data), None)
    if mark is None or data[mark] not in (True, False, 0, 1):
        raise ValueError(f"{mark} is {_short(data[mark])}, not true or false" if mark else "text without desirable")
    return PreferenceRow(image, text, None) if data[mark] else PreferenceRow(image, None, text)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key} is missing or empty" if value == "" else f"{key} is {_short(value)}, not a text")
    if not is_text(value):
        raise ValueError(f"{key} holds half a character: {value!r}")
    return value


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def as_images(rows: Sequence[PreferenceRow], root: Path, source: str) -> PreferenceImages:
    """Rows as a list of images: the distinct texts become the candidate texts.

    Texts that differ in capitals or spaces alone count as one, in the first one's spelling: they would be two answers
    of one embedding.
    """
    if not rows:
        raise SeaAnchorError(f"{source} holds no preference", "at least one row", "add some")
    number: dict[str, int] = {}
    texts: list[str] = []
    pairs = []
    for row in rows:
        for text in (row.chosen, row.rejected):
            if text is not None and number.setdefault(plain(text), len(texts)) == len(texts):
                texts.append(text)
        chosen, rejected = (-1 if text is None else number[plain(text)] for text in (row.chosen, row.rejected))
        pairs.append((chosen, rejected))
    return PreferenceImages(root, tuple(row.image for row in rows), tuple(texts), tuple(pairs))


def swapped_captions(images: Images, pairs: Sequence[tuple[str, str]], *, flip: bool = False) -> PreferenceImages:
    """Pairs that differ only in swapped words, of images whose class names are their captions.

    Args:
        images: labelled images.
        pairs: words to swap.
        flip: prefer the swapped caption, to teach a map the direction of the attribute.

    Returns:
        The images whose caption holds a word of a pair.

    Raises:
        SeaAnchorError: none does, or the images are no files.
    """
    if not isinstance(images, LabelledImages):
        raise SeaAnchorError(
            f"{images.root} has no class folders", "class folders whose names are captions", "sort the images into them"
        )
    names, rows = images.class_names, []
    for path, label in zip(images.paths, images.labels, strict=True):
        caption, other = names[label], swap_words(names[label], pairs)
        if plain(other) != plain(caption):
            rows.append(PreferenceRow(_file(path), *((other, caption) if flip else (caption, other))))
    if not rows:
        raise SeaAnchorError(
            f"no caption of {images.root} holds a word of the pairs",
            "captions such as 'a man is running'",
            "give other pairs",
        )
    return as_images(rows, images.root, str(images.root))


def _file(item: Item) -> Path:
    if not isinstance(item, Path):
        raise SeaAnchorError(
            f"{item} is no file of its own",
            "images as files, so that lines can name them",
            "unpack them into class folders",
        )
    return item


def write_preferences(images: PreferenceImages, file: Path) -> None:
    """Write `images` with their pairs as JSON lines, paths relative to the file. Images that do not lie below it are
    linked or copied to a folder beside it, named after the file.

    Raises:
        SeaAnchorError: the images are no files; the disk is full or the folder cannot be written.
    """
    names = images.texts
    files = [_file(path) for path in images.paths]
    try:
        here = {path: _brought(path, file) for path in dict.fromkeys(files)}
    except OSError as error:
        raise SeaAnchorError(
            f"{file} could not be written with its images beside it: {error.strerror or error}",
            "free space in a folder that can be written",
            "free some, or name another output",
        ) from error
    rows = (
        PreferenceRow(here[path], names[chosen] if chosen >= 0 else None, names[rejected] if rejected >= 0 else None)
        for path, (chosen, rejected) in zip(files, images.pairs, strict=True)
    )
    write_atomic(file, "".join(to_lines(rows, file.parent)))


def _brought(path: Path, file: Path) -> Path:
    """An image below the file's folder: itself, or a link or copy under a name of its path."""
    if path.absolute().is_relative_to(file.parent.absolute()):
        return file.parent / path.absolute().relative_to(file.parent.absolute())
    name = f"{hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()}{path.suffix}"
    target = file.parent / f"{file.stem}-images" / name
    if target.exists() and target.samefile(path):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{name}.partial")  # what an earlier list names stays whole meanwhile
    partial.unlink(missing_ok=True)
    try:
        os.link(path.resolve(), partial)
    except OSError:  # on another disk, or somebody else's file
        shutil.copyfile(path, partial)
    partial.replace(target)
    return target


def to_lines(rows: Iterable[PreferenceRow], root: Path) -> Iterator[str]:
    """JSON lines of rows, as `read_preferences` reads them from a file in `root`."""
    for row in rows:
        name = str(row.image.relative_to(root))
        if row.chosen is not None and row.rejected is not None:
            line: dict[str, Any] = {"image": name, "chosen": row.chosen, "rejected": row.rejected}
        else:
            line = {"image": name, "text": row.chosen or row.rejected, "desirable": row.chosen is not None}
        yield to_json(line, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Tally:
    """How many rows of preference data are of each kind; rows with one text are either desirable or not."""

    paired: int
    desirable: int
    undesirable: int

    @property
    def one_sided(self) -> bool:
        """Whether nothing says what is better than what."""
        return self.paired == 0 and 0 in (self.desirable, self.undesirable)


def tally(pairs: Sequence[tuple[int, int]]) -> Tally:
    """Count the kinds of rows."""
    paired = sum(min(pair) >= 0 for pair in pairs)
    desirable = sum(rejected < 0 for _, rejected in pairs)
    return Tally(paired, desirable, len(pairs) - paired - desirable)
