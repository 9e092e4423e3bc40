"""Options in groups: settings of a dataclass as flags, in panels of the help that are sorted by use."""

import ast
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import Group, Parameter, default_name_transform

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

Groups = Mapping[str, Sequence[str]]
"""Titles with the dotted names of their settings, both in the order of the help."""


class Ordered:
    """Formats one panel of the help, its options in a given order and short forms first.

    Args:
        names: dotted names of settings, in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.rank = {f"--{default_name_transform(name)}": rank for rank, name in enumerate(names)}

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print the panel."""
        from cyclopts.help.formatters import DefaultFormatter

        entries = sorted(panel.entries, key=lambda entry: min(self.rank.get(name, 999) for name in entry.names))
        DefaultFormatter()(console, options, panel.copy(entries=[_plain(entry) for entry in entries]))


def _plain(entry: "HelpEntry") -> "HelpEntry":
    """An entry with its short form first, one flag to switch it off, none to empty a list, and its text unwrapped."""
    from rich.text import Text

    off = [name for name in entry.negative_names if "empty-" not in name]
    text = getattr(entry.description, "primary_renderable", None)
    if isinstance(text, Text):
        entry.description.primary_renderable = Text(" ".join(text.plain.split()))
    return entry.copy(
        positive_names=tuple(sorted(entry.positive_names, key=len)),
        negative_names=tuple(sorted(off, key=len)[:1]),
        default=None if entry.default == "False" else entry.default,
    )


def panels(groups: Groups, first: int = 1) -> dict[str, Group]:
    """The group of every setting, by its dotted name.

    Args:
        groups: in the order of the help.
        first: place of the first of them among all groups of a command.
    """
    found = dict[str, Group]()
    for number, (title, names) in enumerate(groups.items(), start=first):
        group = Group(title, sort_key=number, help_formatter=Ordered(names))
        found |= dict.fromkeys(names, group)
    return found


def as_flags(cls: type, group_of: Mapping[str, Group], short: Collection[str] = (), where: str = "") -> type:
    """A subclass of a dataclass whose settings are flags in groups, each with the help of its docstring.

    Args:
        cls: settings, which may be dataclasses of settings themselves.
        group_of: group of every setting, by its dotted name; others have none.
        short: dotted names of nested settings that may be given by their last name alone.
        where: the section that these settings are, such as `anchor.`.
    """
    texts, hints, made = help_texts(cls), get_type_hints(cls, include_extras=True), []
    for one in fields(cls):
        name, hint = f"{where}{one.name}", hints[one.name]
        extra: dict[str, Any] = {"group": group_of[name]} if name in group_of else {}
        copied: Any = field(default=one.default)
        if one.default is MISSING:
            copied = field(default_factory=one.default_factory)  # type: ignore[misc]
        if isinstance(hint, type) and is_dataclass(hint):
            hint = as_flags(hint, group_of, short, f"{name}.")
            copied = field(default_factory=hint)
        else:
            extra |= {"help": texts.get(one.name, ""), "show_default": shown}
        if name in short:
            extra["alias"] = f"--{default_name_transform(one.name)}"
        made.append((one.name, Annotated[hint, Parameter(**extra), *getattr(hint, "__metadata__", ())], copied))
    return make_dataclass(cls.__name__, made, bases=(cls,), frozen=True, namespace={"__module__": __name__})


def shown(default: Any) -> str | None:
    """A default in the help: none where it says nothing, words for a list."""
    if default is None or default is False or default in ((), {}):
        return None
    if isinstance(default, tuple):
        return " ".join(f"{item:.3g}" if isinstance(item, float) else str(item) for item in default)
    return str(default)


def help_texts(cls: type) -> dict[str, str]:
    """The docstrings below the settings of a dataclass, by their names, each on one line."""
    return _module_texts(str(sys.modules[cls.__module__].__file__)).get(cls.__name__, {})


@cache
def _module_texts(file: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            below = zip(node.body, node.body[1:], strict=False)
            found[node.name] = {
                before.target.id: " ".join(text.value.value.split())
                for before, text in below
                if isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            }
    return found
