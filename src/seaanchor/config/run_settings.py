"""The settings that lie in a run folder. Paths in them that were given relative to some working folder are relative to
the run folder, and so mean the same from everywhere.

Such a file says `output: ./`, and its relative paths begin with `./` or `../`; everything else is as it was given.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from seaanchor.config.io import read_yaml
from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.model_paths import with_prefix
from seaanchor.encoders.pretrained import Pretrained, split_entry, split_pretrained
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.numbers import check_seed
from seaanchor.utils.records import BadValueError, from_plain

T = TypeVar("T")
HERE = "./"
TOKENS = ("class", "mean", "patches")  # as `seaanchor.encoders.tokens.Tokens`
PATHS = ("model", "pretrained", "train_data", "val_data", "class_names", "head", "perturbation.swap")
OVER = re.compile(r"^(.*?)\+(\.{0,2}/.*)$", re.DOTALL)  # an image tower's file, by its path
PREFIX = re.compile(r"^((?:[\w-]+:)*)(.*)$", re.DOTALL)  # timm:local-dir:PATH


def for_run_folder(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Settings as they are written into a run folder.

    Args:
        settings: what `to_dict` gives; relative paths are relative to the working folder.
        folder: of the run.
    """
    home = folder.resolve()

    def moved(path: str) -> str:
        given = Path(path)
        if given.is_absolute() or not os.path.exists(given):
            return path
        return _dotted(os.path.relpath(os.path.abspath(path), home))

    return _with_paths(settings, moved) | {"output": HERE}


def read_settings(file: Path) -> dict[str, Any]:
    """The settings of a YAML file; those of a run folder with paths that lead from here to where they led.

    Raises:
        SeaAnchorError: the file is missing or is no YAML mapping.
    """
    settings = read_yaml(file)
    if settings.get("output") != HERE:
        return settings
    home = file.parent.resolve()

    def found(path: str) -> str:
        return os.path.normpath(home / path) if path.startswith((HERE, "../")) else path

    return _with_paths(settings, found) | {"output": str(file.parent)}


@dataclass(frozen=True)
class Bound:
    """What a run's settings say of its bound on clean embeddings."""

    space: str = "embedding"
    rho: float | None = None


@dataclass(frozen=True)
class StartSettings:
    """What a run's settings say of the model that it started from and of its bound; the rest is not looked at."""

    model: str = ""
    pretrained: str | None = None
    image_size: int | None = None
    seed: int = 0
    preprocess: str | None = None
    tokens: str | None = None
    anchor: Bound = field(default_factory=Bound)


def settings_as(kind: type[T], settings: dict[str, Any], file: Path) -> T:
    """Those settings of a run that a record knows, each of the type that it has there.

    Args:
        kind: the record's class; what a setting leaves out, or null, has its default there.
        settings: as `read_settings` gives them.
        file: where they were read, for the error.

    Raises:
        SeaAnchorError: a value of another type.
    """
    try:
        return from_plain(kind, {key: value for key, value in settings.items() if value is not None})
    except BadValueError as error:
        raise SeaAnchorError(f"{file}: {error}", "the settings of a run", "restore the file") from None


def read_start(run: Path) -> StartSettings:
    """What the settings in a run folder say of its start.

    Raises:
        SeaAnchorError: they are missing, no YAML mapping, or hold a value of another type.
    """
    file = run / "config.yaml"
    found = settings_as(StartSettings, read_settings(file), file)
    check_seed(found.seed, f"{file}: seed")
    if found.tokens not in (None, *TOKENS):
        raise SeaAnchorError(f"{file}: tokens is {found.tokens!r}", ", ".join(TOKENS), "restore the file")
    return found


def with_absolute_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings in the one form in which two of them can be compared, wherever they were read."""
    return _with_paths(settings, lambda path: os.path.abspath(path) if os.path.exists(path) else path)


def _dotted(relative: str) -> str:
    return relative if relative.startswith("..") else f"{HERE}{relative}"


def _with_paths(settings: dict[str, Any], change: Callable[[str], str], where: str = "") -> dict[str, Any]:
    """The same settings with `change` applied to every path in those that may hold one."""

    def changed(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return _with_paths(value, change, f"{key}.")
        if isinstance(value, list):
            return [changed(key, item) for item in value]
        if key not in PATHS or not isinstance(value, str):
            return value
        return _weights(value, change) if key == "pretrained" else _source(key, value, change)

    return {key: changed(f"{where}{key}", value) for key, value in settings.items()}


def _source(key: str, value: str, change: Callable[[str], str]) -> str:
    """A model, data or a file, with the prefix that says how it is read."""
    prefix, path = PREFIX.match(value).groups()  # type: ignore[union-attr] # matches any text
    bare = key == "model" and not prefix and not value.startswith((HERE, "../"))
    is_model = os.path.isfile(Path(value) / "open_clip_config.json") or with_prefix(value) != value
    if bare and (value in embedded_models() or not is_model):
        return value  # a name, whatever folder is called so
    return prefix + change(path)


def _weights(value: str, change: Callable[[str], str]) -> str:
    """`BASE+FILE`, each of them a tag or `FILE#ENTRY`."""
    parts = OVER.match(value)
    asked = Pretrained(*parts.groups()) if parts else split_pretrained(value)

    def changed(part: str) -> str:
        entry = split_entry(part)[1]
        file = part if entry is None else part.removesuffix(f"#{entry}")
        if not re.search(r"[./]", file):  # a tag
            return part
        return change(file) + part.removeprefix(file)

    return changed(asked.base or "") + (f"+{changed(asked.image_tower)}" if asked.image_tower else "")
