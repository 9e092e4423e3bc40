"""Preference data: triplets and unpaired rows from JSON lines, from Hugging Face columns, and from captions with words swapped.

A row names an image and either `chosen` and `rejected` texts, or one `text` (also `completion`, `caption`) that is `desirable` (also
`label`) or not.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seaanchor.data.folder import ImageList
from seaanchor.errors import SeaAnchorError
from seaanchor.wording import swap_words


@dataclass(frozen=True)
class PreferenceRow:
    """An image with a text that should win, one that should lose, or both."""

    image: Path
    chosen: str | None
    rejected: str | None


def read_preferences(file: Path) -> ImageList:
    """Triplets and unpaired rows of a JSON lines file; image paths are relative to it.

    Returns:
        Images whose class names are all distinct texts, with the pair of each image as numbers of texts (−1: none).

    Raises:
        SeaAnchorError: missing or empty file, a line that is no row, an image that is not there.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SeaAnchorError(f"{file} could not be read ({error})", "a JSON lines file of preferences", "correct the path") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            row = to_row(data, file.parent)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SeaAnchorError(
                f"{file}, line {number}: {str(error) or line[:80]}", 'image with chosen and rejected, or with text and desirable',
                'write {"image": "a.jpg", "chosen": "a dog", "rejected": "a cat"}',
            ) from error  # fmt: skip
        if not row.image.is_file():
            raise SeaAnchorError(f"{file}, line {number}: {row.image} is missing", "an image file, relative to the JSON file", "correct the path")
        rows.append(row)
    return as_images(rows, file.parent, str(file))


def to_row(data: Mapping[str, Any], root: Path) -> PreferenceRow:
    """One row of plain data.

    Raises:
        ValueError, KeyError: it is no preference.
    """
    image = root / str(data["image"])
    if "chosen" in data or "rejected" in data:
        chosen, rejected = data["chosen"], data["rejected"]
        if not all(isinstance(t, str) and t.strip() for t in (chosen, rejected)) or chosen == rejected:
            raise ValueError(f"chosen {chosen!r} and rejected {rejected!r} are not two different texts")
        return PreferenceRow(image, chosen, rejected)
    text = next((data[key] for key in ("text", "completion", "caption") if key in data), None)
    desirable = data.get("desirable", data.get("label"))
    if not isinstance(text, str) or not text.strip() or desirable not in (True, False, 0, 1):
        raise ValueError(f"text {text!r}, desirable {desirable!r}")
    return PreferenceRow(image, text, None) if desirable else PreferenceRow(image, None, text)


def as_images(rows: Sequence[PreferenceRow], root: Path, source: str) -> ImageList:
    """Rows as a list of images: the distinct texts become the candidate texts."""
    if not rows:
        raise SeaAnchorError(f"{source} holds no preference", "at least one row", "add some")
    texts = tuple(dict.fromkeys(text for row in rows for text in (row.chosen, row.rejected) if text is not None))
    number = {text: i for i, text in enumerate(texts)} | {None: -1}
    pairs = tuple((number[row.chosen], number[row.rejected]) for row in rows)
    return ImageList(root, tuple(row.image for row in rows), None, texts, pairs)


def from_columns(rows: Iterable[Mapping[str, Any]], folder: Path) -> list[PreferenceRow]:
    """Rows of a Hugging Face data set (columns `image`, and `chosen`, `rejected` or `text`, `label`); pictures are saved to `folder`.

    Raises:
        SeaAnchorError: a row is no preference, or its image is neither a picture nor a path.
    """
    found = []
    for number, data in enumerate(rows):
        image: Any = data.get("image")
        if hasattr(image, "save"):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{number:08d}.png"
            image.convert("RGB").save(path)
            data = {**data, "image": path.name}
        try:
            found.append(to_row(data, folder))
        except (ValueError, KeyError) as error:
            raise SeaAnchorError(f"row {number}: {error}", "columns image, chosen, rejected; or image, text, label", "rename the columns") from error
    return found


def swapped_captions(images: ImageList, pairs: Sequence[tuple[str, str]], *, flip: bool = False) -> ImageList:
    """Pairs that differ only in swapped words, of images whose class names are their captions.

    Args:
        images: labelled images.
        pairs: words to swap.
        flip: prefer the swapped caption, to teach a map the direction of the attribute.

    Returns:
        The images whose caption holds a word of a pair.

    Raises:
        SeaAnchorError: none does.
    """
    if images.labels is None:
        raise SeaAnchorError(f"{images.root} has no class folders", "class folders whose names are captions", "sort the images into them")
    names = images.class_names or ()
    rows = []
    for path, label in zip(images.paths, images.labels, strict=True):
        caption, other = names[label], swap_words(names[label], pairs)
        if other != caption:
            rows.append(PreferenceRow(path, other, caption) if flip else PreferenceRow(path, caption, other))
    if not rows:
        raise SeaAnchorError(f"no caption of {images.root} holds a word of the pairs", "captions such as 'a man is running'", "give other pairs")
    return replace(as_images(rows, images.root, str(images.root)))


def write_preferences(images: ImageList, file: Path) -> None:
    """Write `images` with their pairs as JSON lines, paths relative to the file where they lie below it."""
    from seaanchor.checkpoint import write_atomic

    lines: list[dict[str, Any]] = []
    for path, (chosen, rejected) in zip(images.paths, images.pairs or (), strict=True):
        name = str(path.relative_to(file.parent)) if path.is_relative_to(file.parent) else str(path.absolute())
        names = images.class_names or ()
        if chosen >= 0 and rejected >= 0:
            lines.append({"image": name, "chosen": names[chosen], "rejected": names[rejected]})
        else:
            lines.append({"image": name, "text": names[max(chosen, rejected)], "desirable": chosen >= 0})
    write_atomic(file, "".join(json.dumps(line) + "\n" for line in lines))
