"""Where images come from: a folder, or one of the embedded sets by name."""

from importlib.resources import files
from pathlib import Path

from seaanchor.data.folder import ImageList, list_images

EMBEDDED = Path(str(files("seaanchor"))) / "zoo" / "data"
NAMES = ("photos-mini", "emoji")


def open_images(source: str, class_names: Path | None = None, split: str = "train") -> ImageList:
    """List the images of a folder or an embedded set.

    Args:
        source: a path; or `photos-mini`, `emoji`, with `/train` or `/test` to name the split.
        class_names: file that renames the class folders.
        split: which part of an embedded set is meant where the name does not say.

    Raises:
        SeaAnchorError: no such folder, or nothing to read in it.
    """
    name, _, part = source.partition("/")
    root = EMBEDDED / name / (part or split) if name in NAMES and not Path(source).exists() else Path(source)
    return list_images(root, class_names)
