"""Plain data to frozen dataclasses and back: YAML in and out, with the key, the type and the nearest legal name in
every error."""

import types
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from seaanchor import registry
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.plain_files import parse_yaml, read_text

T = TypeVar("T")
PLAIN = (bool, int, float, str, Path)
RENAMED = {"anchor.on": "anchor.space"}
"""Settings that had another name in an earlier version: old → new, with the names of their sections."""


def from_dict(cls: type[T], data: dict[str, Any], where: str = "") -> T:
    """Build a configuration dataclass from plain data; unknown keys and wrong types are errors.

    Raises:
        SeaAnchorError: names the key, the nearest legal one, and the expected type.
    """
    hints, data = _types(cls), with_current_names(data, where)
    known: dict[str, Any] | None = {}
    if "plugins" in hints:
        data = data | {"plugins": load_plugins(data.get("plugins", ()))}
    if part := getattr(cls, "part", None):
        kind = _cast(str, data.get("kind", cls.kind), f"{where}kind")  # type: ignore[attr-defined]
        known = _options(part, kind, tuple(hints))
        data = _sorted_out(data, known, where)
    for key in data:
        if key not in hints:
            near = _near(cls, str(key), where, known or {})
            raise SeaAnchorError(
                f"unknown setting {where}{key}",
                f"one of {', '.join(sorted([*hints, *(known or {})]))}",
                f"did you mean {near}?" if near else "remove it",
            )
    return cls(**{key: _cast(hints[key], value, f"{where}{key}") for key, value in data.items()})


def with_types(config: T, where: str = "") -> T:
    """A configuration that was made in Python, every value of the type that its setting asks for, its plugins loaded.

    Args:
        config: a run's, or one of its sections.
        where: the section that it is, such as `anchor.`.

    Raises:
        SeaAnchorError: names the setting and what it takes.
    """
    found: dict[str, Any] = {}
    for name, hint in _types(type(config)).items():
        value, setting = getattr(config, name), f"{where}{name}"
        section = is_dataclass(hint) and isinstance(value, hint)  # type: ignore[arg-type]
        found[name] = with_types(value, f"{setting}.") if section else _cast(hint, value, setting)
    if "plugins" in found:
        found["plugins"] = load_plugins(found["plugins"])
    return replace(config, **found)  # type: ignore[type-var] # a dataclass


def _types(cls: type) -> dict[str, Any]:
    """The settings of a section or a run, with their types."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}  # type: ignore[arg-type]


def load_plugins(plugins: Any) -> tuple[str, ...]:
    """Import the plugins of a configuration, and their names as any folder finds them.

    Raises:
        SeaAnchorError: one does not import, or registers a name that is taken.
    """
    return tuple(dict.fromkeys(registry.load_plugin(name) for name in _cast(tuple[str, ...], plugins, "plugins")))


def _options(part: str, kind: str, settings: Sequence[str]) -> dict[str, Any] | None:
    """The settings that only a part of the user's own knows, with their types; None where anything may be one.

    Raises:
        SeaAnchorError: no such part.
    """
    registry.check_kind(part, kind)
    if kind.startswith(registry.OBJECT):
        return None
    taken: dict[str, Any] = {}
    for link in registry.links(part, kind):
        if not registry.is_built_in(part, link):
            hints = registry.hints(part, link)
            taken |= {name: hints.get(name, Any) for name in registry.parameters(part, link) if name not in settings}
    return taken


def _sorted_out(data: dict[str, Any], known: dict[str, Any] | None, where: str) -> dict[str, Any]:
    """A section's settings with those that only the part knows under `options`, each of the type that it asks for.

    Raises:
        SeaAnchorError: an option that the part does not take, or a value of another type.
    """
    given = data.get("options", {})
    if not isinstance(given, dict):
        raise SeaAnchorError(f"{where}options is {given!r}", "settings by their names", "write each on its own line")
    if known is None:
        return data
    given = given | {key: value for key, value in data.items() if key in known}
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            raise SeaAnchorError(
                f"unknown setting {where}options.{key}",
                f"one of {', '.join(known)}" if known else "no options for this part",
                f"did you mean {near[0]}?" if near else "remove it",
            )
    cast = {key: _cast(known[key], value, f"{where}{key}") for key, value in given.items()}
    return {key: value for key, value in data.items() if key not in known} | {"options": cast}


def current_name(setting: str) -> str:
    """The name that a setting has today, such as `anchor.space` for `anchor.on`; an old name is noted on stderr."""
    if setting not in RENAMED:
        return setting
    note(f"the setting {setting} is now called {RENAMED[setting]}; the old name is still read")
    return RENAMED[setting]


def with_current_names(data: dict[str, Any], where: str = "") -> dict[str, Any]:
    """The same settings, those of an earlier version under the names that they have today.

    Args:
        data: settings, with sections as nested mappings.
        where: the section that they are from, such as `anchor.`.

    Raises:
        SeaAnchorError: a setting is given under both its names.
    """
    renamed: dict[str, Any] = {}
    for key, value in data.items():
        name = current_name(f"{where}{key}").removeprefix(where)
        if name != key and name in data:
            raise SeaAnchorError(
                f"{where}{key} and {where}{name} are two names of one setting", "one of them", f"remove {where}{key}"
            )
        renamed[name] = with_current_names(value, f"{where}{key}.") if isinstance(value, dict) else value
    return renamed


def _near(cls: type, key: str, where: str, known: dict[str, Any]) -> str | None:
    """The setting most likely meant: one of this name in a section of `cls`, or of a similar name in `cls` itself or
    among what its part knows."""
    hints = _types(cls)
    sections = [name for name, hint in hints.items() if is_dataclass(hint) and key in _types(hint)]  # type: ignore[arg-type]
    near = get_close_matches(key, [*hints, *known], n=1, cutoff=0.5)
    return f"{where}{sections[0]}.{key}" if sections else f"{where}{near[0]}" if near else None


def _cast(hint: Any, value: Any, name: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise SeaAnchorError(
                f"{name} is {value!r}",
                "a section with settings of its own",
                f"write {name}: on one line and its settings indented below",
            )
        return from_dict(hint, value, f"{name}.")  # type: ignore[arg-type]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        others = [a for a in args if a is not type(None)]
        return value if value is None or len(others) > 1 else _cast(others[0], value, name)
    if origin is Literal:
        if value not in args:
            near = get_close_matches(str(value), [str(a) for a in args], n=1, cutoff=0.4)
            raise SeaAnchorError(
                f"{name} is {value!r}",
                f"one of {', '.join(map(str, args))}",
                f"did you mean {near[0]}?" if near else "choose one of them",
            )
        return value
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_cast(args[0], item, name) for item in items)
    return _cast_plain(hint, value, name) if hint in PLAIN else value


def _cast_plain(hint: type, value: Any, name: str) -> Any:
    try:
        if hint is bool and not isinstance(value, bool):
            raise ValueError
        if hint is int and float(value) != int(value):
            raise ValueError
        if hint is not bool and (value is None or isinstance(value, bool | dict | list)):
            raise ValueError
        return hint(value)
    except (TypeError, ValueError, OverflowError):
        raise SeaAnchorError(f"{name} is {value!r}", f"a value of type {hint.__name__}", "correct it") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data that YAML and JSON can hold; `from_dict` gives the same configuration back."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    data = plain(asdict(config))
    for section in data.values():
        if isinstance(section, dict) and not section.get("options", True):
            del section["options"]  # of most runs there are none
    return data


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a recipe file, under the names that they have today.

    Raises:
        SeaAnchorError: the file is missing or is no YAML mapping.
    """
    expected, change = "a YAML file of settings", "see `seaanchor recipes ls` and `cp`"
    try:
        data = _strings_for_keys(parse_yaml(read_text(path, expected, change)))
    except ValueError as error:
        raise SeaAnchorError(f"{path} could not be read as a recipe ({error})", expected, change) from error
    if not isinstance(data, dict):
        raise SeaAnchorError(
            f"{path} holds {type(data).__name__}",
            "a YAML mapping of settings",
            "start from `seaanchor recipes cp lore`",
        )
    return with_current_names(data)


def _strings_for_keys(node: Any) -> Any:
    """YAML 1.1 reads a bare `on` as true, also where it is the old name of an anchor's setting."""
    return (
        {"on" if key is True else key: _strings_for_keys(value) for key, value in node.items()}
        if isinstance(node, dict)
        else node
    )
