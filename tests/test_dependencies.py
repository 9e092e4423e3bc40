"""Every package that is imported stands in `pyproject.toml`: what another dependency brings may be gone tomorrow."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import seaanchor

ROOT = Path(seaanchor.__file__).parent
NAMED = {  # import → distribution, where they differ, or where a dependency promises it
    "PIL": "pillow",
    "yaml": "pyyaml",
    "open_clip": "open_clip_torch",
    "imagecorruptions": "imagecorruptions-imaug",
    "markupsafe": "jinja2",
    "fsspec": "datasets",
    "pyarrow": "datasets",
}


def imported() -> set[str]:
    """Third-party packages that some file imports, also inside functions."""
    found = set()
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"seaanchor"}


def test_every_import_is_a_dependency_or_in_an_extra():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "test" for line in lines]
    named = {re.split(r"[<>=\[ ]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    assert {NAMED.get(name, name).lower() for name in imported()} <= named
