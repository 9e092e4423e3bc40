"""What a source of images stands for on the disk, without reading any of it and without heavy imports."""

import os
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.paths import beside

EMBEDDED = Path(str(files("seaanchor"))) / "zoo" / "data"
NAMES = ("photos", "photos-mini", "emoji", "emoji-people")
READ_ELSEWHERE = (".jsonl", ".parquet")  # endings whose readers have messages of their own


def place_of(source: str, split: str = "train") -> Path:
    """The folder or file of a source: below the package where it is an embedded set and no path is called that.

    Args:
        source: as `seaanchor.data.sources.open_images` takes it.
        split: of an embedded set that does not say.
    """
    name, _, part = source.partition("/")
    return EMBEDDED / name / (part or split) if name in NAMES and not os.path.exists(source) else Path(source)


def check_there(source: str, split: str = "train") -> None:
    """A path exists, unless its reader looks for it.

    Raises:
        SeaAnchorError: there is no such folder, file or set.
    """
    if source.startswith("hf-data:") or source.endswith(READ_ELSEWHERE):
        return
    name, place = source.partition("/")[0], place_of(source, split)
    if name == "emoji-people" and not os.path.exists(source):
        return  # its parts lie in one table
    if not os.path.exists(place) and place.parent == EMBEDDED / name:
        parts = [f"{name}/{part.name}" for part in sorted(place.parent.iterdir()) if part.is_dir()]
        raise SeaAnchorError(
            f"{name} has no part {place.name!r}, and no path is called {source!r}",
            f"one of {', '.join(parts)}",
            "name one of them",
        )
    if not os.path.exists(place) and "*" not in place.name:
        expected = f"a folder, a tar, hf-data:NAME, a JSON lines file, or one of {', '.join(NAMES)}"
        raise SeaAnchorError(
            f"{place} is missing, and no source is called {source!r}", expected, _change(source, place)
        )


def _change(source: str, place: Path) -> str:
    """What to do about a path that is missing: take a name like it, if one lies beside."""
    near = get_close_matches(place.name, [*beside(place), *(NAMES if "/" not in source else ())], n=1)
    return f"did you mean {Path(source).with_name(near[0])}?" if near else "correct the path"
