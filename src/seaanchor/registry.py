"""The parts of a method by their names: those of the library, and those that users register.

A part of one's own is one file with `@seaanchor.register("objective", "my_loss")` on a class or a function. It is then
a `kind` in Python, in YAML and, through `--plugin`, on the command line. Nothing here imports torch: built-in parts are
named as `module:attribute` and imported when one of them is asked for.
"""

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

from seaanchor.errors import SeaAnchorError

Factory = Callable[..., Any]
F = TypeVar("F", bound=Factory)

BUILT_IN: dict[str, dict[str, str]] = {
    "objective": {
        "embedding_distance": "seaanchor.objectives.embedding:EmbeddingDistance",
        "tecoa": "seaanchor.objectives.supervised:TeCoA",
        "cross_entropy": "seaanchor.objectives.supervised:CrossEntropy",
        "dpo": "seaanchor.objectives.preference:DPO",
        "ipo": "seaanchor.objectives.preference:IPO",
        "kto": "seaanchor.objectives.preference:KTO",
        "ppo": "seaanchor.objectives.policy_gradient:PPO",
    },
    "anchor": {
        "none": "seaanchor.anchors.penalty:NoAnchor",
        "penalty": "seaanchor.anchors.penalty:Penalty",
        "kl": "seaanchor.anchors.penalty:kl",
        "lagrangian": "seaanchor.anchors.lagrangian:Lagrangian",
    },
    "perturbation": {
        "none": "seaanchor.perturbations.none:NoPerturbation",
        "pgd": "seaanchor.perturbations.pgd:PGD",
        "apgd": "seaanchor.perturbations.apgd:APGD",
        "typographic": "seaanchor.perturbations.typographic:Typographic",
        "attribute": "seaanchor.perturbations.attribute:AttributeSwap",
    },
    "adapter": {
        "full": "seaanchor.adapters.full:Full",
        "last_blocks": "seaanchor.adapters.last_blocks:LastBlocks",
        "linear": "seaanchor.adapters.linear_map:Linear",
        "lora": "seaanchor.adapters.lora:LoRA",
    },
}
OBJECT = "object:"  # before the class of a part that was given as an object and has no name
_registered: dict[str, dict[str, str | Factory]] = {part: dict(known) for part, known in BUILT_IN.items()}
_plugins: dict[str, ModuleType] = {}


def register(part: str, name: str) -> Callable[[F], F]:
    """Give a part of a method a name, as a decorator of its class or of a function that makes it.

    Its parameters are its settings: `objective: {kind: my_loss, temperature: 2}` calls `MyLoss(temperature=2)`. A class
    may have a class method `from_settings` that is called instead.

    Args:
        part: objective, anchor, perturbation or adapter.
        name: letters, digits, `_` and `-`; what `kind` then is.

    Raises:
        SeaAnchorError: no such part, a name with other characters, one that is taken, or nothing that can be called.
    """
    if part not in _registered:
        raise SeaAnchorError(f"a part {part!r}", f"one of {', '.join(_registered)}", _near(part, tuple(_registered)))
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise SeaAnchorError(f"the name {name!r} for a part", "letters, digits, _ and -", "choose another name")

    def add(factory: F) -> F:
        if not callable(factory):
            raise SeaAnchorError(
                f"{part} {name} is {factory!r}", "a class, or a function that makes the part", "register that"
            )
        before = _registered[part].get(name)
        if before is not None and _address(before) != _address(factory):
            raise SeaAnchorError(
                f"the name {name!r} is taken: {_address(before)} is that {part}", "a name of its own", "rename yours"
            )
        _registered[part][name] = factory
        return factory

    return add


def names(part: str) -> tuple[str, ...]:
    """Names of all objectives, anchors, perturbations or adapters, the library's first."""
    return tuple(_registered[part])


def links(part: str, kind: str) -> tuple[str, ...]:
    """The names in a kind: one, or several perturbations joined by `+`, each on what the one before it left.

    >>> links("perturbation", "typographic+pgd")
    ('typographic', 'pgd')
    """
    return tuple(kind.split("+")) if part == "perturbation" else (kind,)


def check_kind(part: str, kind: str) -> None:
    """Fail where a name is not registered.

    Raises:
        SeaAnchorError: it is not; names the nearest one.
    """
    if kind.startswith(OBJECT):
        return
    for name in links(part, kind):
        if name not in _registered[part]:
            near = get_close_matches(name, names(part), n=1, cutoff=0.4)
            raise SeaAnchorError(
                f"{part}.kind is {kind!r}",
                f"one of {', '.join(names(part))}",
                f"{f'did you mean {near[0]}?' if near else 'choose one of them.'} A part of your own is found in the "
                "file that `plugins` or --plugin names",
            )


def is_built_in(part: str, kind: str) -> bool:
    """Whether a kind is the library's own."""
    return all(_registered[part].get(name) == BUILT_IN[part].get(name, "") for name in links(part, kind))


def lookup(part: str, name: str) -> Factory:
    """The class or function behind a name; built-in ones are imported here.

    Raises:
        SeaAnchorError: as `check_kind`; or the part was given as an object, which no name leads to.
    """
    if name.startswith(OBJECT):
        raise SeaAnchorError(
            f"{part}.kind is {name!r}: a part that was given as an object",
            "the object itself, or a part with a name",
            f'give a Method to train, or register the part: @seaanchor.register("{part}", "my_name")',
        )
    check_kind(part, name)
    found = _registered[part][name]
    if isinstance(found, str):
        module, attribute = found.split(":")
        return getattr(import_module(module), attribute)
    return found


def name_of(part: str, cls: type) -> str | None:
    """The name a class is registered under, None if it is not."""
    return next((name for name, found in _registered[part].items() if _address(found) == _address(cls)), None)


def constructor(factory: Factory) -> Factory:
    """What makes a part of its settings: `from_settings` where its class has that, else itself."""
    return getattr(factory, "from_settings", factory)


def parameters(part: str, kind: str) -> dict[str, inspect.Parameter]:
    """The settings that a part takes: the parameters of what makes it, of all links where there are several."""
    found: dict[str, inspect.Parameter] = {}
    for name in links(part, kind):
        found |= parameters_of(lookup(part, name))
    return found


def parameters_of(factory: Factory) -> dict[str, inspect.Parameter]:
    """The named parameters of what makes a part."""
    taken = inspect.signature(constructor(factory)).parameters.items()
    return {name: p for name, p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def hints(part: str, kind: str) -> dict[str, Any]:
    """The annotated types of the settings that a part takes."""
    found: dict[str, Any] = {}
    for name in links(part, kind):
        made_by = constructor(lookup(part, name))
        found |= get_type_hints(vars(made_by).get("__init__", made_by) if isinstance(made_by, type) else made_by)
    return found


def load_plugin(name: str) -> str:
    """Import a module or a .py file that registers parts; a second time does nothing.

    Args:
        name: a module that can be imported from the working directory too, or a path to a .py file.

    Returns:
        The name under which a later process finds it from any folder: the path of a file is made absolute.

    Raises:
        SeaAnchorError: it does not import, or registers a name that is taken.
    """
    path = Path(name).resolve() if name.endswith(".py") else None
    key = name if path is None else str(path)
    if key not in _plugins:
        if path is not None and not path.exists() and not _imported(path):
            near = get_close_matches(path.name, [file.name for file in path.parent.glob("*.py")], n=1)
            raise SeaAnchorError(
                f"plugin {name} does not import: there is no file {path}",
                "a path to a .py file, from the working folder or absolute",
                f"did you mean {Path(name).with_name(near[0])}?" if near else "correct the path where it is named",
            )
        with _undone_by_errors(name):
            _plugins[key] = _import_module(name) if path is None else _import_file(path)
    return key


def plugin_hashes(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the source of each loaded plugin, by the name that `load_plugin` returned. A module without a source
    of its own has none."""
    sources = {name: getattr(_plugins.get(name), "__file__", None) for name in names}
    return {name: sha256(Path(file).read_bytes()).hexdigest() for name, file in sources.items() if file}


@contextmanager
def _undone_by_errors(plugin: str) -> Iterator[None]:
    before = {part: dict(known) for part, known in _registered.items()}
    try:
        yield
    except Exception as error:
        _registered.update(before)
        if isinstance(error, SeaAnchorError):
            raise SeaAnchorError(f"plugin {plugin}: {error.found}", error.expected, error.change) from error
        raise SeaAnchorError(
            f"plugin {plugin} does not import: {type(error).__name__}: {error}",
            "a module, or a path to a .py file, that imports and registers its parts",
            f"correct it until `python {plugin}` runs" if plugin.endswith(".py") else "correct the name or the module",
        ) from error


def _import_module(name: str) -> ModuleType:
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return import_module(name)


def _imported(path: Path) -> ModuleType | None:
    modules = list(sys.modules.values())
    return next((one for one in modules if getattr(one, "__file__", None) == str(path)), None)


def _import_file(path: Path) -> ModuleType:
    if module := _imported(path):
        return module  # by its name, before
    name = f"seaanchor_plugin_{path.stem}_{sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what lies beside it can be imported, as by a script
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _address(found: str | Factory) -> str:
    return found if isinstance(found, str) else f"{found.__module__}:{found.__qualname__}"


def _near(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else "choose one of them"
