"""Commands in the documents are commands: each is read as the command line reads it, and each block of Python compiles
and asks for names that are there."""

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SIGNATURES = ROOT / "docs" / "api.md"  # written from the docstrings
PAGES = sorted({ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")} - {SIGNATURES})
BLOCK = re.compile(r"^```(?P<kind>bash|sh|python)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, *kinds: str) -> list[str]:
    """Fenced blocks of a page."""
    return [found["text"] for found in BLOCK.finditer(page.read_text()) if found["kind"] in kinds]


def commands(page: Path) -> list[str]:
    """The lines that call `seaanchor`, continued ones joined."""
    lines = "\n".join(blocks(page, "bash", "sh")).replace("\\\n", " ").splitlines()
    plain = [re.sub(r"\s#\s.*|\$\w+", "", line).strip() for line in lines]  # without comments and shell variables
    return [line for line in plain if line.startswith("seaanchor ")]


def read(line: str) -> None:
    """Bind the words of a command to its parameters."""
    from seaanchor.cli.app import app

    words = shlex.split(re.split(r" > | \| | && ", line)[0])[1:]
    app.parse_args(words, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one(page):
    wrong = []
    for line in commands(page):
        try:
            read(line)
        except Exception as error:
            wrong.append(f"{line}: {error}")
    assert not wrong, "\n".join(wrong)


def test_a_wrong_command_is_found():
    with pytest.raises(Exception, match="no-such-option"):
        read("seaanchor evaluate --model x --data y --no-such-option 3")


@pytest.mark.parametrize(
    "page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: str(page.relative_to(ROOT))
)
def test_every_block_of_python_asks_for_names_that_are_there(page):
    import seaanchor

    for code in blocks(page, "python"):
        tree = ast.parse(code)
        imports = [name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
        short = {"seaanchor", "sa", *(name.asname for name in imports if name.name == "seaanchor")}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and (names := chain(node)) and names[0] in short:
                found = seaanchor
                for name in names[1:]:
                    assert hasattr(found, name), f"{'.'.join(names)}: no {name}"
                    found = getattr(found, name)


def chain(node: ast.expr) -> list[str]:
    """The names of a.b.c; empty where it begins otherwise."""
    if isinstance(node, ast.Name):
        return [node.id]
    before = chain(node.value) if isinstance(node, ast.Attribute) else []
    return [*before, node.attr] if before else []  # type: ignore[attr-defined]
