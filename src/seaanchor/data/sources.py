"""Where images come from: a folder, shards, a table, or one of the embedded sets by name."""

from importlib.resources import files
from pathlib import Path

from seaanchor.data.folder import list_images
from seaanchor.data.huggingface.images import is_table, list_rows
from seaanchor.data.people import open_people
from seaanchor.data.preferences import read_preferences
from seaanchor.data.types import Images
from seaanchor.data.typographic.read import is_lettered, list_lettered
from seaanchor.data.webdataset.read import is_shards, list_shards
from seaanchor.errors import SeaAnchorError

EMBEDDED = Path(str(files("seaanchor"))) / "zoo" / "data"
NAMES = ("photos-mini", "emoji", "emoji-people")


def open_images(source: str, class_names: Path | None = None, split: str = "train") -> Images:
    """List the images of a folder, of shards, of a table or of an embedded set.

    Args:
        source: a folder (also of `label=X_text=Y` images); a tar, or a folder of them in CLIP_benchmark's layout;
            `hf-data:NAME`, as `seaanchor.data.huggingface.images` reads it; a JSON lines file of preferences; or
            `photos-mini`, `emoji`, `emoji-people` (captions as classes), with `/train` or `/test` to name the split.
        class_names: names for the classes, as `read_class_names` takes them.
        split: which part is meant where the source holds several and does not say.

    Raises:
        SeaAnchorError: no such source, nothing to read in it, or class names for one that names its classes itself.
    """
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
    root = EMBEDDED / name / (part or split) if name in NAMES and not Path(source).exists() else Path(source)
    if not root.exists():
        expected = f"a folder, a tar, hf-data:NAME, a JSON lines file, or one of {', '.join(NAMES)}"
        raise SeaAnchorError(f"{root} is missing, and no source is called {source!r}", expected, "correct the path")
    if is_shards(root):
        return list_shards(root, class_names, split)
    return list_lettered(root) if is_lettered(root) else list_images(root, class_names)


def _names_itself(source: str) -> bool:
    """Whether the texts of a source are its own, so that no list could rename them."""
    people = source.partition("/")[0] == "emoji-people" and not Path(source).exists()
    return not is_table(source) and (people or source.endswith(".jsonl") or is_lettered(Path(source)))
