"""Where images come from: a folder, or one of the embedded sets by name."""

from importlib.resources import files
from pathlib import Path

from seaanchor.data.folder import ImageList, list_images
from seaanchor.data.people import open_people
from seaanchor.data.preferences import read_preferences
from seaanchor.data.typographic import is_lettered, list_lettered

EMBEDDED = Path(str(files("seaanchor"))) / "zoo" / "data"
NAMES = ("photos-mini", "emoji", "emoji-people")


def open_images(source: str, class_names: Path | None = None, split: str = "train") -> ImageList:
    """List the images of a folder or an embedded set.

    Args:
        source: a folder (also of `label=X_text=Y` images), a JSON lines file of preferences; or `photos-mini`, `emoji`, `emoji-people`
            (captions as classes), with `/train` or `/test` to name the split.
        class_names: file that renames the class folders.
        split: which part of an embedded set is meant where the name does not say.

    Raises:
        SeaAnchorError: no such folder, or nothing to read in it.
    """
    name, _, part = source.partition("/")
    if name == "emoji-people" and not Path(source).exists():
        return open_people(EMBEDDED / name, part or split).images
    if source.endswith(".jsonl"):
        return read_preferences(Path(source))
    root = EMBEDDED / name / (part or split) if name in NAMES and not Path(source).exists() else Path(source)
    return list_lettered(root) if is_lettered(root) else list_images(root, class_names)
