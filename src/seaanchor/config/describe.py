"""From the four parts of a method to the configuration that describes them."""

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from seaanchor import registry
from seaanchor.config.assemble import RADII, Section, sections
from seaanchor.config.schema import RunConfig, format_epsilon, from_dict, to_dict
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.method import Method

PLAIN = (bool, int, float, str, type(None))


def run_config(method: "Method", **settings: Any) -> RunConfig:
    """The run that a method was published with, as a configuration.

    Args:
        method: its four parts become the four sections.
        settings: of `RunConfig`, in place of the method's own defaults.

    Raises:
        SeaAnchorError: a setting of another type; or as `with_method`.
    """
    given = to_dict(RunConfig(**{**method.defaults, **settings}))
    return with_method(from_dict(RunConfig, given), method)  # a path may be given as text


def with_method(config: RunConfig, method: "Method") -> RunConfig:
    """The configuration with the four sections that describe a method's parts.

    A registered part is described by its name and settings, another one by `object:` and its class, with what its
    `config()` returns as options.

    Raises:
        SeaAnchorError: a section says something else than the part; or the run is to be resumed, and a part has no
            `config()` by which to see that it is the same.
    """
    described: dict[str, Any] = {given.part: _merged(given, getattr(method, given.part)) for given in sections(config)}
    for part, made in method.parts.items():
        if config.resume == "auto" and described[part].kind.startswith(registry.OBJECT) and not _has_settings(made):
            raise SeaAnchorError(
                f"resume auto, but nothing tells whether the {part} {type(made).__qualname__} is the one of the run",
                "a part whose settings can be recorded and compared",
                f"add `config(self) -> dict` with its settings to {type(made).__qualname__}, or register the class",
            )
    return replace(config, **described)


def _merged(given: Section, made: Any) -> Section:
    """A section with a part's kind and settings; what the part does not know stays as given.

    Raises:
        SeaAnchorError: the section was given another kind, or another value of a setting.
    """
    kind, settings = _description(given.part, made)
    known, plain = {f.name for f in fields(given)}, type(given)()
    said: dict[str, Any] = {"kind": kind, "options": {k: v for k, v in settings.items() if k not in known}}
    said |= {key: value for key, value in settings.items() if key in known}
    now = {f.name: getattr(given, f.name) for f in fields(given)}
    found = from_dict(type(given), now | said, f"{given.part}.")
    for key in said:
        if now[key] not in (getattr(plain, key), getattr(found, key)):
            raise SeaAnchorError(
                f"{given.part}.{key} is {now[key]!r}, but the method's {given.part} has {getattr(found, key)!r}",
                "a method object, or settings of its parts, but not both",
                f"remove {given.part}.{key}, or change the object",
            )
    return found


def _description(part: str, made: Any) -> tuple[str, dict[str, Any]]:
    """The kind and the settings of a part."""
    links = getattr(made, "links", None) if part == "perturbation" else None
    if links is not None:
        found = [_description(part, link) for link in links]
        if not any(kind.startswith(registry.OBJECT) for kind, _ in found):
            return "+".join(kind for kind, _ in found), {k: v for _, settings in found for k, v in settings.items()}
    name, settings = registry.name_of(part, type(made)), _settings(part, made)
    if name is None or settings is None:
        name = f"{registry.OBJECT}{type(made).__module__}.{type(made).__qualname__}"
    settings = settings or {}
    for key in RADII:
        if isinstance(settings.get(key), float | int):
            settings[key] = format_epsilon(settings[key])
    return name, settings


def _settings(part: str, made: Any) -> dict[str, Any] | None:
    """What a part can be made of again: its `config()`, or the fields of a registered dataclass that are its settings;
    None where that is unknown."""
    if hasattr(made, "config"):
        settings = made.config()
        if not isinstance(settings, dict) or not _is_plain(settings):
            raise SeaAnchorError(
                f"config() of {type(made).__qualname__} returns {settings!r}",
                "a dict of numbers, texts, booleans, lists and dicts",
                "return plain values from which the part can be made again",
            )
        return dict(settings)
    name = registry.name_of(part, type(made))
    if name is None or not is_dataclass(made):
        return None
    taken, known = registry.parameters(part, name), {f.name for f in fields(getattr(RunConfig(), part))}
    keys = [f.name for f in fields(made) if f.name in taken]
    if registry.is_built_in(part, name):
        if any(callable(f.default) and getattr(made, f.name) is not f.default for f in fields(made)):
            return None  # a function of the user's own, such as a reward, which no setting names
        keys = [key for key in keys if key in known]  # the others are of the run, such as its class names
    values = {key: getattr(made, key) for key in keys}
    return values if all(_is_plain(value) for value in values.values()) else None


def _has_settings(made: Any) -> bool:
    return hasattr(made, "config")


def _is_plain(value: Any) -> bool:
    """Whether YAML can hold a value."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return isinstance(value, PLAIN) or (isinstance(value, list | tuple) and all(_is_plain(item) for item in value))
