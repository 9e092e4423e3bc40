"""From a configuration to the four parts of a method."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from seaanchor import registry
from seaanchor.config.schema import (
    AdapterConfig,
    AnchorConfig,
    ObjectiveConfig,
    PerturbationConfig,
    RunConfig,
    parse_epsilon,
)
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.method import Method
    from seaanchor.types import Perturbation

Section = ObjectiveConfig | AnchorConfig | PerturbationConfig | AdapterConfig
RADII = ("epsilon", "step_size")  # text in settings, such as 4/255, and numbers in parts


def method_of(config: RunConfig) -> "Method":
    """The method a configuration describes, before model and data are known: see `Method.bind`.

    Raises:
        SeaAnchorError: a part with no such name, without a setting that it asks for, or that refuses a value.
    """
    from seaanchor.method import Method

    return Method(**{section.part: build(section) for section in sections(config)})


def assemble(
    config: RunConfig,
    dim: int,
    texts: Sequence[str] = (),
    image_size: int | None = None,
    num_images: int | None = None,
) -> "Method":
    """The method a configuration describes, bound to a model and texts.

    Args:
        config: a checked configuration.
        dim: D of the reference embeddings, which the multiplier network reads.
        texts: class names or candidate texts, which typographic and attribute perturbations draw from.
        image_size: side of the model's images in pixels, which limits an l2 radius.
        num_images: of the training data, for a table of multipliers.
    """
    from seaanchor.types import BindContext

    return method_of(config).bind(BindContext(dim, texts, config.seed, image_size, num_images))


def perturbation_of(config: PerturbationConfig, texts: Sequence[str] = (), seed: int = 0) -> "Perturbation":
    """The perturbation a configuration describes, over the given class names or candidate texts."""
    from seaanchor.types import BindContext, bind

    return bind(build(config), BindContext(0, texts, seed))


def sections(config: RunConfig) -> tuple[Section, ...]:
    """The four parts' settings."""
    return config.objective, config.anchor, config.perturbation, config.adapter


def unused_settings(config: RunConfig) -> list[str]:
    """Settings that were changed and that no part takes, such as `objective.beta` beside FARE."""
    found = []
    for section in sections(config):
        if section.kind.startswith(registry.OBJECT):
            continue
        taken, plain = {"kind", "options", *registry.parameters(section.part, section.kind)}, type(section)()
        names = [f.name for f in fields(section) if f.name not in taken]
        found += [f"{section.part}.{n}" for n in names if getattr(section, n) != getattr(plain, n)]
    return found


def build(section: Section) -> Any:
    """The part that a section describes.

    Raises:
        SeaAnchorError: no part has this name, a setting that it asks for is missing, or it refuses a value.
    """
    names = registry.links(section.part, section.kind)
    made = tuple(_build(section, name) for name in names)
    if len(made) == 1:
        return made[0]
    from seaanchor.perturbations.chain import Chain

    return Chain(made)


def _build(section: Section, name: str) -> Any:
    """One part; settings of a section that have the names of its parameters are handed to it."""
    factory = registry.lookup(section.part, name)
    taken = registry.parameters_of(factory)
    given = {f.name: getattr(section, f.name) for f in fields(section) if f.name not in ("kind", "options")}
    for radius in RADII:
        if given.get(radius) is not None:
            given[radius] = parse_epsilon(given[radius], given["norm"])
    if registry.is_built_in(section.part, name):
        return registry.constructor(factory)(**{key: value for key, value in given.items() if key in taken})
    _check_defaults(section, name, {key: p.default for key, p in taken.items() if p.default is not p.empty})
    given |= section.options
    if missing := [key for key, p in taken.items() if p.default is p.empty and key not in given]:
        raise SeaAnchorError(
            f"{section.part} {name} without {' and '.join(missing)}",
            "a value for each parameter that has no default",
            f"set {section.part}.{missing[0]}",
        )
    try:
        return registry.constructor(factory)(**{key: value for key, value in given.items() if key in taken})
    except (TypeError, ValueError) as error:
        raise SeaAnchorError(
            f"{section.part} {name} could not be made: {error}", "settings that it takes", f"correct {section.part}"
        ) from error


def _check_defaults(section: Section, name: str, defaults: dict[str, Any]) -> None:
    """A setting that both the section and the part know has one default, or nobody could tell which holds.

    Raises:
        SeaAnchorError: it has two.
    """
    plain = type(section)()
    for key in defaults.keys() & {f.name for f in fields(section)} - {"kind", "options"}:
        ours, theirs = getattr(plain, key), defaults[key]
        if key in RADII and ours is not None and theirs is not None:
            ours, theirs = parse_epsilon(ours, "l2"), parse_epsilon(theirs, "l2")
        if ours != theirs:
            setting = f"{section.part}.{key}"
            raise SeaAnchorError(
                f"{section.part} {name} has {key} = {defaults[key]!r} by default, but the setting {setting} {ours!r}",
                "one default",
                f"give the parameter {key} no default, or another name",
            )
