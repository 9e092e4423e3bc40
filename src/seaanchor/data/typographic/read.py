"""Folders of typographic images whose file names hold label and written word, `label=X_text=Y.png`, as RTA-100
and PAINT have them."""

import os
from collections.abc import Sequence
from pathlib import Path

from seaanchor.data.files import find_images, is_image_name
from seaanchor.data.name_pairing import WHOLE_NUMBER, clean_names
from seaanchor.data.types import TypographicImages
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.text import plain

LONGEST = 220  # bytes; file systems take 255, and some are for `label=`, `_text=`, the number and `.png`


def parse_name(stem: str) -> tuple[str, str] | None:
    """Label and drawn word of a file name without its ending, or None if it has another form.

    >>> parse_name("label=red fox_text=ipod_3")
    ('red fox', 'ipod')
    >>> parse_name("cat")
    """
    if not stem.startswith("label=") or "_text=" not in stem:
        return None
    label, _, rest = stem.removeprefix("label=").partition("_text=")
    word, _, number = rest.rpartition("_")
    return (label, word) if word and WHOLE_NUMBER.fullmatch(number) else (label, rest)


def check_names(class_names: Sequence[str]) -> None:
    """Fail where a file name could not keep the names apart.

    Raises:
        SeaAnchorError: a name with `/` or `_text=` in it, or two too long for one file name.
    """
    if bad := [name for name in class_names if "/" in name or os.sep in name or "_text=" in name or "\0" in name]:
        named, change = ", ".join(map(repr, bad[:5])), "rename them: --class-names FILE with a name for each class"
        raise SeaAnchorError(f"{named} cannot be part of label=X_text=Y.png", "names without / and _text=", change)
    longest = sorted(class_names, key=lambda name: len(name.encode()))[-2:]
    length = sum(len(name.encode()) for name in longest)
    if length > LONGEST:
        found, expected = (
            f"{length} bytes of class names for one file name: {', '.join(longest)[:200]}",
            f"at most {LONGEST} for label and drawn word together",
        )
        raise SeaAnchorError(found, expected, "give shorter names with --class-names FILE")


def is_lettered(root: Path) -> bool:
    """Whether a folder directly holds `label=X_text=Y` images."""
    return root.is_dir() and any(
        is_image_name(f.name) and parse_name(f.stem) is not None and f.is_file() for f in root.iterdir()
    )


def list_lettered(root: Path) -> TypographicImages:
    """Images with their label, and the drawn word as the rejected text; the classes are all labels and all drawn words.

    Raises:
        SeaAnchorError: a file of another name form among them.
    """
    inside = find_images(root, deep=False)
    files, parsed = inside.images, [parse_name(f.stem) for f in inside.images]
    if strange := [f.name for f, names in zip(files, parsed, strict=True) if names is None]:
        raise SeaAnchorError(
            f"{root}: {', '.join(strange[:3])}", "files named label=X_text=Y.png", "rename or remove them"
        )
    named = [clean_names(names, str(root)) for names in parsed if names is not None]
    if same := [f.name for f, (label, word) in zip(files, named, strict=True) if plain(label) == plain(word)]:
        raise SeaAnchorError(
            f"{root}: {', '.join(same[:3])} carry their own label", "a wrong word on every image", "remove them"
        )
    spelt = {plain(name): name for name in sorted({name for names in named for name in names}, reverse=True)}
    texts = tuple(sorted(spelt.values()))  # names that differ in capitals or spaces alone are one class
    number = {plain(text): i for i, text in enumerate(texts)}
    labels, words = (tuple(number[plain(names[side])] for names in named) for side in (0, 1))
    return TypographicImages(root, files, labels, words, texts, inside.refused)
