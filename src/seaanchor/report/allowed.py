"""What a report may load: models in the runs that were named, and what the user names besides."""

from collections.abc import Sequence
from pathlib import Path

from seaanchor.encoders.model_paths import path_of
from seaanchor.encoders.pretrained import split_entry
from seaanchor.errors import SeaAnchorError
from seaanchor.report.reproduce import quoted
from seaanchor.report.runs import EXPORTS, Run
from seaanchor.utils.paths import portable

Allowed = frozenset[Path]
"""Model folders, folders of several, and weights files, resolved."""


class OutsideError(SeaAnchorError):
    """A model that a report may not load; `change` is what allows it."""


def allowed_by_user(named: Sequence[str]) -> Allowed:
    """What `--allow` names.

    Args:
        named: model folders, with or without the prefix of their library, or folders that they lie in, such as that of
            a sweep; and weights files, with or without an entry.

    Raises:
        SeaAnchorError: there is no such folder or file.
    """
    places = {name: split_entry(path_of(name))[0] for name in named}
    if missing := [name for name, place in places.items() if not place.exists()]:
        found = f"--allow {missing[0]} is missing"
        raise SeaAnchorError(found, "the folder of a model, or a file of weights", "correct the path")
    return frozenset(place.resolve() for place in places.values())


def exports_of(runs: Sequence[Run]) -> Allowed:
    """The exports that lie in runs; one that is a link to elsewhere does not."""
    places = [(run.folder.resolve(), (run.folder / name).resolve()) for run in runs for name in EXPORTS]
    return frozenset(place for folder, place in places if place.is_dir() and place.is_relative_to(folder))


def check_allowed(model: str, places: Sequence[Path], allowed: Allowed) -> None:
    """Fail where a model needs a folder or file that may not be loaded.

    Args:
        model: what it is called in the message.
        places: what it is loaded from.
        allowed: what may be loaded.

    Raises:
        OutsideError: one of the places is not allowed.
    """
    outside = [place for place in places if not _covers(allowed, place.resolve())]
    if outside:
        flags = " ".join(f"--allow {quoted(portable(str(place)))}" for place in outside)
        raise OutsideError(
            f"the model {portable(model)} lies elsewhere, and only what lies in the runs that were named is loaded",
            "a model in the runs, or one that is allowed",
            f"add {flags} to show it",
        )


def _covers(allowed: Allowed, place: Path) -> bool:
    """A model's folder is allowed with a folder that holds it; a file only by its own name."""
    return place in allowed or (place.is_dir() and not allowed.isdisjoint(place.parents))
