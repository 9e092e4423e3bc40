"""Images with captions, from JSON lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaanchor.data.files import file_below
from seaanchor.data.types import UnlabelledImages
from seaanchor.errors import SeaAnchorError, is_text
from seaanchor.utils.plain_files import parse_json, read_text

CAPTION_FILES = ("captions.jsonl", "metadata.jsonl")  # the second as Hugging Face's image folders name it
EXAMPLE = '{"image": "a.jpg", "captions": ["a dog", "a dog in the snow"]}'


@dataclass(frozen=True)
class Captions:
    """Images with their texts.

    Attributes:
        images: the images.
        texts: M texts, not necessarily distinct.
        image_of_text: which image each belongs to.
    """

    images: UnlabelledImages
    texts: tuple[str, ...]
    image_of_text: tuple[int, ...]


def read_captions(root: Path) -> Captions:
    """Captions of images from JSON lines: `captions.jsonl` or `metadata.jsonl` in a folder, or a file named itself.

    A line names an image (`image`, `file` or `file_name`, below the file's folder) and its text or texts (`captions`,
    `caption` or
    `text`: a string or a list of strings). Several lines may name one image.

    Raises:
        SeaAnchorError: there is no such file, a line is no such row, an image is missing or lies elsewhere, or there is
            no row at all.
    """
    file = (
        root
        if root.is_file()
        else next((root / name for name in CAPTION_FILES if (root / name).is_file()), root / CAPTION_FILES[0])
    )
    lines = read_text(file, f"a JSON lines file such as {CAPTION_FILES[0]}", "correct the path").split("\n")
    number: dict[Path, int] = {}
    texts, owners = [], []
    for at, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            name, captions = _to_row(parse_json(line))
            path = file_below(name, file.parent)
        except (ValueError, KeyError, TypeError) as error:
            raise SeaAnchorError(
                f"{file}, line {at}: {str(error) or line[:80]}", "an image and its captions", f"write {EXAMPLE}"
            ) from error
        owner = number.setdefault(path, len(number))
        texts += captions
        owners += [owner] * len(captions)
    if not texts:
        raise SeaAnchorError(f"{file} holds no caption", "at least one row", f"write lines such as {EXAMPLE}")
    return Captions(UnlabelledImages(file.parent, tuple(number)), tuple(texts), tuple(owners))


def _to_row(data: Mapping[str, Any]) -> tuple[str, list[str]]:
    name = next((data[key] for key in ("image", "file", "file_name") if key in data), None)
    captions = next((data[key] for key in ("captions", "caption", "text") if key in data), None)
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(name, str) or not isinstance(captions, list) or not captions:
        raise ValueError(f"image {name!r}, captions {captions!r}")
    if not all(isinstance(text, str) and text.strip() and is_text(text) for text in captions):
        raise ValueError(f"captions {captions!r} of {name}")
    return name, captions
