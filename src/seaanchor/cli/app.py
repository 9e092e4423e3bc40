"""The command line: thin subcommands over the library. Nothing heavy is imported before a command needs it."""

import io
import os
import re
import sys
from collections.abc import Callable
from inspect import BoundArguments
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Dict

import seaanchor.cli.data_build  # noqa: F401 (adds `data build`)
from seaanchor import __version__
from seaanchor.cli.attack import attack_app
from seaanchor.cli.cache import cache_app
from seaanchor.cli.data import data_app
from seaanchor.cli.evaluate import evaluate
from seaanchor.cli.examples import add_examples
from seaanchor.cli.export import export, steer
from seaanchor.cli.mistakes import as_error
from seaanchor.cli.option_groups import Ordered
from seaanchor.cli.play import play
from seaanchor.cli.report import report_app
from seaanchor.cli.sweep import sweep
from seaanchor.cli.train import train, train_app
from seaanchor.config.io import RENAMED, current_name, load_plugins
from seaanchor.config.run_settings import read_settings
from seaanchor.config.schema import RunConfig, from_dict, to_dict
from seaanchor.config.validation import check
from seaanchor.errors import SeaAnchorError, naming
from seaanchor.utils.json_text import to_json
from seaanchor.utils.log import log_to_terminal
from seaanchor.utils.text import first_sentence

app = App(
    name="seaanchor",
    help="Make pre-trained visual encoders trustworthy, always against a frozen copy of themselves.",
    version=__version__,
    help_format="plaintext",  # a reader of Markdown costs a fifth of the time until help is there
    group_parameters=Group("Parameters", help_formatter=Ordered(())),
)
recipes_app = App(name="recipes", help="Shipped recipes.")
app.command(train_app)
app.command(recipes_app)
app.command(attack_app)
app.command(data_app)
app.command(report_app)
app.command(play, name="app")
app.command(cache_app)
app.command(export)
app.command(steer)
app.command(evaluate)
app.command(sweep)


@app.command
def quickstart(*, output: Path = Path("runs/quickstart"), seed: int = 0) -> None:
    """Train the embedded model against attacks and against drawn words, and measure the gain and the cost. Offline, a
    few minutes on two cores.

    Parameters
    ----------
    output
        Folder of the tables, figures and runs; an earlier quickstart in it is replaced.
    seed
        Random seed of every run.
    """
    from seaanchor.cli.quickstart import quickstart as run

    run(output, seed)


@recipes_app.command
def ls() -> None:
    """List the shipped recipes."""
    from seaanchor.config.recipes import RECIPES

    for name, recipe in RECIPES.items():
        print(f"{name:<19} {first_sentence(recipe.__doc__)}")


@recipes_app.command
def cat(name: str, /) -> None:
    """Print a recipe as YAML.

    Parameters
    ----------
    name
        A shipped recipe (`seaanchor recipes ls`).
    """
    print(_recipe_yaml(name), end="")


@recipes_app.command
def cp(name: str, target: Path | None = None, /) -> None:
    """Copy a recipe to a file that you can edit and give to `seaanchor train`.

    Parameters
    ----------
    name
        A shipped recipe (`seaanchor recipes ls`).
    target
        New file; NAME.yaml by default.
    """
    from seaanchor.utils.checkpoint import write_atomic

    target = target or Path(f"{name}.yaml")
    text = _recipe_yaml(name)
    if not target.parent.is_dir():
        raise SeaAnchorError(f"{target.parent} is no folder", "a file in a folder that is there", "name another target")
    if target.is_dir() or (target.exists() and target.read_bytes() != text.encode()):
        raise SeaAnchorError(f"{target} exists", "a new file", "name another target")
    write_atomic(target, text)
    print(target)


@recipes_app.command
def validate(
    recipe: Path, /, *, plugin: Annotated[tuple[str, ...], Parameter(show_default=False, negative=())] = ()
) -> None:
    """Check a recipe without loading anything.

    Parameters
    ----------
    recipe
        YAML file of settings, or a shipped recipe (`seaanchor recipes ls`).
    plugin
        Module or .py file with parts of your own, where the recipe names none.
    """
    load_plugins(plugin)
    from seaanchor.config.recipes import RECIPES, recipe_named

    if str(recipe) in RECIPES or not recipe.exists():
        check(recipe_named(str(recipe)))
    else:
        with naming(recipe):
            check(from_dict(RunConfig, read_settings(recipe)))
    print(f"{recipe}: valid")


@app.command
def env() -> None:
    """Versions and hardware, for a bug report."""
    from seaanchor.utils.environment import environment

    print(to_json(environment(), indent=2))


add_examples(app)


def _recipe_yaml(name: str) -> str:
    import yaml

    from seaanchor.config.recipes import RECIPES, recipe_named

    recipe = to_dict(recipe_named(name))
    doc = first_sentence(RECIPES[name].__doc__) if name in RECIPES else name
    return f"# {doc}\n{yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)}"


def main() -> None:
    """Entry point: the recipe named on the command line becomes the defaults of the flags. Mistakes end with one
    `error:` and code 2."""
    _print_any_name()
    log_to_terminal()
    arguments = [_current_flag(argument) for argument in sys.argv[1:]]
    app.config, recipe = (), ""  # what an earlier call of this process left
    try:
        command, bound = _parsed(arguments)
        if command in (train, sweep):
            from seaanchor.config.recipes import of_its_file, recipe_named

            recipe, given = bound.arguments["recipe"], bound.arguments.get("config")
            load_plugins(given.plugins if given else ())
            settings = _drop_none(to_dict(recipe_named(recipe)))
            for plugin in settings.pop("plugins", ()):  # as flags, which add to each other
                arguments += ["--plugin", plugin]
            arguments = _merge_options(settings, given, arguments)
            app.config = (Dict({command.__name__: settings}, source=recipe),)
            command, bound = _parsed(arguments)
        command(*bound.args, **bound.kwargs)
    except (SeaAnchorError, CycloptsError, OSError) as error:
        shown = as_error(error, app, arguments)
        shown = of_its_file(shown, recipe) if recipe else shown
        print(f"error: {shown}", file=sys.stderr, flush=True)
        if os.environ.get("WORLD_SIZE", "1") != "1" and arguments[:1] in (["train"], ["evaluate"], ["sweep"]):
            from seaanchor.distributed.launch import end_others

            end_others(shown)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parsed(arguments: list[str]) -> tuple[Callable[..., None], BoundArguments]:
    """A command and what it is given. cyclopts reads other values where pydantic was imported, as by a plugin, and
    refuses the defaults of our commands; so for this moment pydantic is as good as not imported."""
    hidden = sys.modules.pop("pydantic", None)
    try:
        command, bound, *_ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    finally:
        if hidden is not None:
            sys.modules["pydantic"] = hidden
    return command, bound


def _print_any_name() -> None:
    """Names of files may hold bytes that are no UTF-8; printed, they show as `\\udce9` instead of ending a command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _merge_options(settings: dict[str, Any], given: RunConfig | None, arguments: list[str]) -> list[str]:
    """Settings of parts that are not built in come as one mapping. Those of the flags are put over those of the recipe,
    unless another part was named, and the flags are taken out of the arguments."""
    left, skipping = [], False
    for argument in arguments:
        if argument.startswith("--"):
            skipping = re.match(r"--(objective|anchor|perturbation|adapter)\.options\.", argument) is not None
        if not skipping:
            left.append(argument)
    for name in ("objective", "anchor", "perturbation", "adapter"):
        section = settings.get(name)
        if section is None or given is None:
            continue
        renamed = any(re.match(rf"--{name}\.kind(=|$)", argument) for argument in arguments)
        before = {} if renamed else section.get("options", {})
        section["options"] = before | dict(getattr(given, name).options)
    return left


def _current_flag(argument: str) -> str:
    """A flag of an earlier version under the name that its setting has today; anything else as it is."""
    flag, equals, value = argument.partition("=")
    setting = flag.removeprefix("--")
    return f"--{current_name(setting)}{equals}{value}" if flag.startswith("--") and setting in RENAMED else argument


def _drop_none(settings: dict) -> dict:
    return {k: _drop_none(v) if isinstance(v, dict) else v for k, v in settings.items() if v is not None}
