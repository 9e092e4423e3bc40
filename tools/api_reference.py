"""Writes docs/api.md: every public name with its signature and what its docstring says first (`make reference`).

Public are the names of `seaanchor.__all__`, and those in `__all__` of the modules and packages directly below it.
"""

import ast
import inspect
import pkgutil
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import seaanchor

PAGE = Path(__file__).parents[1] / "docs/api.md"
WIDTH = 100
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
HEADER = """# API reference

Every public name, with its signature and the first words of its docstring; `help(name)` shows the rest. Shapes stand
in names: B images, C channels, H height, W width, D embedding dimension, Y texts or classes. Pixels are in [0, 1]. How
the parts are used is in the [guide](guide.md).

This page is written by `make reference`; a test fails where it is out of date.
"""


def public_modules() -> list[ModuleType]:
    """The package, and the modules and packages directly below it that say what is public."""
    below = [import_module(f"seaanchor.{module.name}") for module in pkgutil.iter_modules(seaanchor.__path__)]
    return [seaanchor, *(module for module in below if getattr(module, "__all__", None))]


def entries(module: ModuleType) -> dict[str, Any]:
    """Public names of a module and what they are; other modules and dunder names are left out."""
    found = {name: getattr(module, name) for name in sorted(module.__all__, key=str.lower)}
    return {name: one for name, one in found.items() if not name.startswith("__") and not inspect.ismodule(one)}


def first_words(text: str | None) -> str:
    """The first paragraph of a docstring as one line.

    >>> first_words("Draw a word\\n    on an image.\\n\\n    Args:\\n        word: ...")
    'Draw a word on an image.'
    """
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split())


def signature(name: str, one: Any) -> str:
    """A name with its parameters as Python writes them, one a line where they are long."""
    try:
        found = inspect.signature(one)
    except (TypeError, ValueError):
        return name
    text = _readable(f"{name}{found}")
    if len(text) <= WIDTH:
        return text
    plain, result = found.replace(return_annotation=inspect.Signature.empty), found.return_annotation
    lines = _parameter_lines(plain)
    arrow = "" if result is inspect.Signature.empty else f" -> {inspect.formatannotation(result)}"
    return _readable("\n".join([f"{name}(", *(f"    {line}," for line in lines), f"){arrow}"]))


def _parameter_lines(found: inspect.Signature) -> list[str]:
    """Each parameter, with the marks `/` and `*` on lines of their own."""
    lines, parameters = [], list(found.parameters.values())
    for i, parameter in enumerate(parameters):
        before = parameters[i - 1].kind if i else None
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            lines.append("*")
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not parameter.POSITIONAL_ONLY:
            lines.append("/")
        lines.append(str(parameter))
    return lines


def _readable(text: str) -> str:
    """Without the modules that types come from, and without addresses in memory."""
    text = re.sub(r"<(?:function|class) '?([\w.]+?)'?(?: at 0x[0-9a-f]+)?>", r"\1", text)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return re.sub(r"\b(?:seaanchor|torch|pathlib|collections|typing|PIL|numpy)(?:\.[a-z_]\w*)*\.(?=[A-Z])", "", text)


@cache
def _constants(module: str) -> dict[str, str]:
    """Docstrings that follow assignments of a module."""
    tree = ast.parse(Path(sys.modules[module].__file__ or "").read_text())
    found = {}
    for assignment, after in zip(tree.body, tree.body[1:], strict=False):
        targets = assignment.targets if isinstance(assignment, ast.Assign) else [getattr(assignment, "target", None)]
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            found |= {target.id: after.value.value for target in targets if isinstance(target, ast.Name)}
    return found


def _constant(name: str, one: Any) -> str:
    """The first words about a value that is neither a class nor a function."""
    for module, loaded in sorted(sys.modules.items()):
        if module.startswith("seaanchor.") and vars(loaded).get(name) is one and name in _constants(module):
            return first_words(_constants(module)[name])
    return ""


def methods(one: type) -> list[str]:
    """Lines on the public methods and properties that a class defines itself and describes."""
    lines = []
    for name, member in vars(one).items():
        target = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if name.startswith("_") or not getattr(target, "__doc__", None) or inspect.isclass(target):
            continue
        if isinstance(target, property):
            lines.append(f"- `.{name}`: {first_words(target.__doc__)}")
        elif inspect.isfunction(target):
            shown = re.sub(r"\((?:self|cls)(?:, )?", "(", _readable(f"{name}{inspect.signature(target)}"), count=1)
            lines.append(f"- `.{shown}`: {first_words(target.__doc__)}")
    return lines


def describe(name: str, one: Any) -> str:
    """The section of one public name."""
    if inspect.isclass(one) or callable(one):
        shown, words = signature(name, one), first_words(one.__doc__)
    else:
        shown, words = f"{name}: {type(one).__name__}", _constant(name, one)
    members = methods(one) if inspect.isclass(one) else []
    parts = [f"### {name}", f"```python\n{shown}\n```", words, "\n".join(members)]
    return "\n\n".join(part for part in parts if part)


def render() -> str:
    """The whole page."""
    sections = [HEADER.strip()]
    for module in public_modules():
        sections.append(f"## {module.__name__}")
        if module is not seaanchor:
            sections.append(first_words(module.__doc__))
        sections += [describe(name, one) for name, one in entries(module).items()]
    return "\n\n".join(filter(None, sections)) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render())
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
