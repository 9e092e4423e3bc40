"""The models of the page: the untouched one and the hardened ones beside it, loaded once for everybody who looks on."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import torch

from seaanchor.adapters.linear_map import Spectrum, decompose
from seaanchor.app.settings import MODEL, SIBLINGS
from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.trained import MAP, read_map
from seaanchor.training.start import load_start

EXPORT, AVERAGED = "export", "export-averaged"
KEPT = 4  # runs in memory; the one that was not asked for the longest goes first
loading = threading.RLock()
"""Held by whoever loads: the bars of the terminal are for one at a time, and nobody loads what another loads."""

_shown: "dict[str, Cast]" = {}


@dataclass(frozen=True, eq=False)
class Player:
    """A model of the page.

    Attributes:
        label: what it is called there.
        model: frozen and in eval mode.
        place: its folder; None for one that ships with the package.
        spectrum: its linear map over `model`, None for a model without one.
    """

    label: str
    model: LoadedModel
    place: Path | None = None
    spectrum: Spectrum | None = None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.encoder.mean.device


@dataclass(frozen=True, eq=False)
class Cast:
    """The models that stand side by side, the untouched one first."""

    players: tuple[Player, ...]

    @property
    def steered(self) -> Player | None:
        """The one with a linear map, whose t can be moved."""
        return next((player for player in self.players if player.spectrum is not None), None)


def default_names(embedded: Sequence[str], base: str = MODEL) -> tuple[str, ...]:
    """The untouched model of the page and the hardened ones that belong to it, of those that ship.

    >>> default_names(["a", "a-dpo", "a-fare", "a-lore", "b-lore"], "a")
    ('a', 'a-lore', 'a-dpo')
    """
    return (base, *(name for sibling in SIBLINGS if (name := f"{base}-{sibling}") in embedded))


def cast_of(source: str, device: str | None = None) -> Cast:
    """The models that are shown for a source.

    Args:
        source: folder of a run; anything else that `load_model` takes, which then stands beside the untouched embedded
            model; empty for the embedded models.
        device: cpu, cuda, ...; the accelerator if there is one.

    Raises:
        SeaAnchorError: no such folder, a run that has not exported yet, or a model that cannot be loaded.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with loading:
        if not source.strip():
            return _embedded(place)
        path = Path(source.strip()).expanduser()
        return _own(str(path), _changed(path), place)


def cast_kept(source: str, device: str | None = None) -> Cast:
    """As `cast_of`, but what was shown before is still shown when its folder was moved away since.

    Args:
        source: as for `cast_of`.
        device: as for `cast_of`.

    Raises:
        SeaAnchorError: as `cast_of`.
    """
    with loading:
        if source in _shown and not Path(source.strip()).expanduser().exists():
            return _shown[source]
        found = cast_of(source, device)
        _shown.pop(source, None)
        _shown[source] = found
        if len(_shown) > KEPT:
            _shown.pop(next(iter(_shown)))  # the first of a dictionary is the oldest
        return found


def gone(cast: Cast) -> str:
    """A sentence on a folder that was moved away since its model was loaded; empty if none was."""
    lost = [player.place for player in cast.players if player.place is not None and not player.place.is_dir()]
    return f"{lost[0]} was moved or removed; the page still answers from memory." if lost else ""


@cache
def _embedded(device: str) -> Cast:
    names = default_names(embedded_models())
    return Cast(tuple(_player(name, load_model(name), device) for name in names))


@lru_cache(maxsize=KEPT)
def _own(source: str, changed: int, device: str) -> Cast:
    """`changed` makes a run that was trained again another entry of the cache."""
    path = Path(source)
    if path.name in (EXPORT, AVERAGED) and (path.parent / "config.yaml").is_file():
        path = path.parent
    if not (path / "config.yaml").is_file():
        place = path if path.is_dir() else None
        return Cast((_embedded(device).players[0], _player(source, load_model(source), device, place)))
    before = load_start(path)
    untouched = _player(f"{before.name}, untouched", before, device)
    if (path / MAP).is_file():
        spectrum = decompose(read_map(path, before))
        return Cast((untouched, Player(path.name, before, path, spectrum)))
    export = path / EXPORT
    if not export.is_dir():
        found = f"the run {path} has no trained model yet"
        raise SeaAnchorError(found, f"a finished run, with the folder {EXPORT}", "wait for its end, or name another")
    return Cast((untouched, _player(path.name, load_model(str(export)), device, path)))


def _changed(path: Path) -> int:
    """When the files of a folder last changed, in nanoseconds; 0 for what is no folder."""
    files = [path, path / MAP, path / EXPORT]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


def _player(label: str, model: LoadedModel, device: str, place: Path | None = None) -> Player:
    model.encoder.to(device).eval().requires_grad_(False)  # for good: two attacks at once change nothing of it
    return Player(label, model, place)
