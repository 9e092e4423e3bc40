"""Pictures of people in roles: captions that differ only in the gendered word.

Stored as `people.jsonl`: file, role, gender (`man`, `woman`, `person`), skin_tone, half (`train` or `test`; roles are
split, not images).
"""

from dataclasses import dataclass
from pathlib import Path

from seaanchor.data.name_pairing import clean_names
from seaanchor.data.types import ClassifiedImages
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import parse_json, read_text

GENDERS = ("man", "woman")


@dataclass(frozen=True)
class People:
    """Pictures of men and women: `images` is labelled by caption, and role (N,) and gender (N,) are numbers into
    `roles` and `GENDERS`."""

    images: ClassifiedImages
    roles: tuple[str, ...]
    role: tuple[int, ...]
    gender: tuple[int, ...]


def caption(gender: str, role: str) -> str:
    """`man artist`: what a template such as `a photo of a {}.` takes.

    >>> caption("woman", "biking")
    'woman biking'
    """
    return f"{gender} {role}"


def open_people(folder: Path, half: str | None) -> People:
    """Read a people set; `half` keeps one half of the roles.

    Raises:
        SeaAnchorError: no such set, or nothing in that half.
    """
    table = folder / "people.jsonl"
    expected = "people.jsonl with file, role, gender, half"
    text = read_text(table, expected, "correct the path")
    try:
        rows = [parse_json(line) for line in text.split("\n") if line.strip()]  # JSON may hold other line ends
        rows = [row for row in rows if row["gender"] in GENDERS and half in (None, row["half"])]
        roles = tuple(sorted({row["role"] for row in rows}))
        found = [(folder / row["file"], roles.index(row["role"]), GENDERS.index(row["gender"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise SeaAnchorError(f"{table} could not be read ({error!r})", expected, "correct the path") from error
    if not found:
        raise SeaAnchorError(f"{table} has no row for half {half!r}", "train or test", "name one of them")
    roles = clean_names(roles, str(table))
    captions = tuple(caption(gender, role) for role in roles for gender in GENDERS)
    labels = tuple(len(GENDERS) * role + gender for _, role, gender in found)
    images = ClassifiedImages(folder, tuple(path for path, _, _ in found), labels, captions)
    return People(images, roles, tuple(role for _, role, _ in found), tuple(gender for *_, gender in found))
