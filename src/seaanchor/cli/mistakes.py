"""Mistakes on the command line in the form of all errors: what was found, what was expected, what to change."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from seaanchor.cli.examples import EXAMPLES
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import disk_error

if TYPE_CHECKING:
    from cyclopts.argument import Argument

NEAR = 0.7  # of difflib's ratio, below which two names are not a slip of the fingers
MEANT = {
    "attack": ("perturbation.kind", "suite"),
    "attacks": ("perturbation.kind", "suite"),
    "bs": ("batch-size",),
    "checkpoint": ("model",),
    "data": ("train-data", "data"),
    "dataset": ("train-data", "data"),
    "eps": ("epsilon",),
    "gpu": ("device",),
    "images": ("train-data", "data"),
    "iterations": ("max-steps", "num-steps"),
    "learning-rate": ("lr",),
    "loss": ("objective.kind",),
    "model-name": ("model",),
    "out": ("output",),
    "output-dir": ("output",),
    "queries": ("num-queries",),
    "steps": ("max-steps", "num-steps"),
    "suites": ("suite",),
    "test-data": ("val-data", "data"),
    "val-data": ("data",),
    "weight-decay": ("wd",),
    "weights": ("pretrained",),
}
"""What people mean by a name that no option has: the first of these that a command knows."""
PARTS = ("objective", "anchor", "perturbation", "adapter")


def as_error(error: Exception, app: App, arguments: Sequence[str]) -> SeaAnchorError:
    """An error of the parser, or of the disk, as one of ours.

    Args:
        error: what was raised.
        app: the whole command line.
        arguments: what was typed.
    """
    if isinstance(error, OSError):
        return disk_error(error)
    if not isinstance(error, CycloptsError):
        assert isinstance(error, SeaAnchorError)
        return error
    command = " ".join(("seaanchor", *(error.command_chain or ())))
    if isinstance(error, UnknownCommandError):
        return _unknown_command(error, app, command)
    if isinstance(error, UnknownOptionError):
        option = (error.token.keyword or error.token.value).partition("=")[0]
        return unknown_option(option, [name for one in error.argument_collection for name in one.names], command)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return _missing(error, app, command, arguments)
    if isinstance(error, CoercionError) and error.argument is not None:
        return _wrong_value(error, error.argument)
    help_ = f"see `{command} --help`"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return SeaAnchorError(f"{' '.join(error.unused_tokens)} belongs to no option", f"what `{command}` takes", help_)
    return SeaAnchorError(str(error).rstrip("."), f"what `{command}` takes", help_)


def unknown_option(option: str, known: Iterable[str], command: str) -> SeaAnchorError:
    """The error for an option that a command has not, with the one that is most likely meant.

    Args:
        option: as typed, such as `--data`.
        known: names of all options of the command.
        command: such as `seaanchor train`.
    """
    names = [name.removeprefix("--") for name in known]
    typed = option.lstrip("-")
    sections = [name for name in names if "." in name and "no-" not in name and name.rpartition(".")[2] == typed]
    if len(sections) > 1:
        candidates = ", ".join(f"--{name}" for name in sections)
        return SeaAnchorError(f"{option} may be any of {candidates}", "one of them", "write it with its section")
    meant = [name for name in MEANT.get(typed, ()) if name in names]
    words = [name for name in names if typed in name.replace(".", "-").split("-")]
    near = meant[:1] or get_close_matches(typed, names, n=1, cutoff=NEAR) or words[:1]
    change = f"did you mean --{near[0]}?" if near else "correct its name, or leave it out"
    section, _, setting = typed.partition(".")
    if section in PARTS and setting and "." not in setting and any(name.startswith(f"{section}.") for name in names):
        change += f"{'' if near else '.'} A setting of a part of your own is --{section}.options.{setting}"
    return SeaAnchorError(f"`{command}` has no option {option}", f"one that `{command} --help` shows", change)


def _unknown_command(error: UnknownCommandError, app: App, command: str) -> SeaAnchorError:
    typed = (error.unused_tokens or [""])[0]
    above = reduce(lambda part, name: part[name], error.command_chain or (), app)
    names = [name for name in above if not name.startswith("-")]
    near = get_close_matches(typed, names, n=1, cutoff=0.5)
    change = f"did you mean {near[0]}?" if near else f"see `{command} --help`"
    return SeaAnchorError(f"`{command}` has no command {typed!r}", f"one of {', '.join(names)}", change)


def _missing(error: MissingArgumentError, app: App, command: str, arguments: Sequence[str]) -> SeaAnchorError:
    """An option without its value, or a command without what it cannot do without: all of that at once."""
    chain = tuple(error.command_chain or ())
    if error.keyword is not None:
        count, _ = error.argument.token_count()  # type: ignore[union-attr]
        wanted = f"{count} values behind it" if count > 1 else "a value behind it"
        got = len(error.tokens_so_far)
        found = f"{error.keyword} with {got} of {count} values" if got else f"{error.keyword} without a value"
        return SeaAnchorError(found, wanted, f"see `{command} --help`")
    collection = reduce(lambda part, name: part[name], chain, app).assemble_argument_collection(parse_docstring=True)
    typed = {argument.partition("=")[0] for argument in arguments}
    known = [name for one in collection for name in one.names]
    if unknown := [word for word in error.unused_tokens or () if word.startswith("--") and word not in known]:
        return unknown_option(unknown[0].partition("=")[0], known, command)
    lacking = [one for one in collection if one.required and not typed & set(one.names)]
    if error.argument is not None and error.argument.name not in [one.name for one in lacking]:
        lacking = [error.argument]
    texts = (f"{one.name}: {' '.join((one.parameter.help or 'a value').split()).rstrip('.')}" for one in lacking)
    example = EXAMPLES.get(chain, (f"{command} --help",))[0]
    return SeaAnchorError(
        f"`{command}` without {' and '.join(one.name for one in lacking)}", "; ".join(texts), f"such as `{example}`"
    )


def _wrong_value(error: CoercionError, argument: "Argument") -> SeaAnchorError:
    wanted: Any = error.target_type
    given = error.token.value if error.token is not None else ""
    name = (error.token.keyword if error.token is not None else None) or argument.name
    found = f"{name} is {given!r}"
    if get_origin(wanted) is Literal:
        choices = [str(choice) for choice in get_args(wanted)]
        near = get_close_matches(given, choices, n=1, cutoff=0.4)
        change = f"did you mean {near[0]}?" if near else "choose one of them"
        return SeaAnchorError(found, f"one of {', '.join(choices)}", change)
    return SeaAnchorError(found, f"a value of type {getattr(wanted, '__name__', wanted)}", "correct it")
