"""Data flows one way, and nothing heavy is imported before it is needed: rules of the source tree, kept by reading
it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seaanchor

ROOT = Path(seaanchor.__file__).parent
HEAVY = ("torch", "torchvision", "open_clip", "timm", "transformers", "matplotlib", "numpy", "PIL")
LIGHT_MODULES = ("__init__", "cli.app", "config.schema", "config.io", "config.validation", "config.recipes", "errors")

ORDER = (
    "errors",
    "registry",
    "types",
    "functional",
    "utils",
    "plotting",
    "objectives",
    "anchors",
    "attacks",
    "adapters",
    "distributed",
    "method",
    "perturbations",
    "data",
    "encoders",
    "config",
    "export",
    "methods",
    "training",
    "profiling",
    "evaluation",
    "report",
    "steering",
    "app",
    "api",
    "sweeps",
    "testing",
    "cli",
)
"""Folders and modules of the package, from the left: a file imports only from those left of its own, or from its own
folder, inside functions too."""


def imports(tree: ast.Module, *, everywhere: bool) -> list[tuple[str, int]]:
    """Imported modules with their lines; only those that run on import, or those inside functions as well."""
    found = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.append(("." * child.level + (child.module or ""), child.lineno))
                if child.module == "seaanchor":
                    found.extend((f"seaanchor.{alias.name}", child.lineno) for alias in child.names)
            if everywhere or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                visit(child)

    visit(tree)
    return found


def trees() -> dict[str, ast.Module]:
    """Every source file by its dotted name below `seaanchor`."""
    return {
        ".".join(f.relative_to(ROOT).with_suffix("").parts): ast.parse(f.read_text())
        for f in sorted(ROOT.rglob("*.py"))
    }


def edges() -> list[tuple[str, str, int]]:
    """(file, file that it imports, line), both by dotted names below `seaanchor`; a package stands for its
    `__init__`."""
    found, files = [], trees()
    for name, tree in files.items():
        for module, line in imports(tree, everywhere=True):
            target = module.removeprefix("seaanchor.")
            if module.startswith("seaanchor.") and target in files:
                found.append((name, target, line))
            elif module.startswith("seaanchor.") and f"{target}.__init__" in files:
                found.append((name, f"{target}.__init__", line))
    return found


def test_data_flows_one_way():
    place = {folder: i for i, folder in enumerate(ORDER)}
    broken = []
    for name, target, line in edges():
        mine, theirs = name.split(".")[0], target.split(".")[0]
        if name != "__init__" and mine != theirs and place[theirs] > place[mine]:
            broken.append(f"{name}:{line} imports {target}")
    assert not broken, "\n".join(broken)


def test_no_file_imports_itself_by_a_detour():
    """Taking away the files that import nothing that is left must take away all of them, also inside a folder."""
    left: dict[str, set[str]] = {name: set() for name in trees()}
    for name, target, _ in edges():
        left[name].add(target)
    while left:
        free = {name for name, targets in left.items() if not (targets - {name}) & set(left)}
        assert free, f"these import each other: {sorted(left)}"
        left = {name: targets for name, targets in left.items() if name not in free}


def test_every_folder_has_its_place():
    assert {name.split(".")[0] for name in trees()} - {"__init__"} <= set(ORDER)


def test_at_most_eight_files_lie_flat():
    assert sum(name.count(".") == 0 for name in trees()) <= 8


def test_imports_are_absolute():
    relative = [
        f"{name}:{line}"
        for name, tree in trees().items()
        for module, line in imports(tree, everywhere=True)
        if module.startswith(".")
    ]
    assert not relative


@pytest.mark.parametrize("name", LIGHT_MODULES)
def test_light_modules_import_nothing_heavy(name):
    heavy = [
        (module, line) for module, line in imports(trees()[name], everywhere=False) if module.split(".")[0] in HEAVY
    ]
    assert not heavy


def test_light_modules_pull_in_nothing_heavy_by_a_detour():
    modules = [f"seaanchor.{name}" for name in LIGHT_MODULES if name != "__init__"]
    code = f"import sys\nfor m in {modules}:\n    __import__(m)\n    print(m, [h for h in {HEAVY} if h in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [f"{module} []" for module in modules]


def test_the_reader_of_imports_sees_what_it_should():
    source = (
        "import torch\nif x:\n    import numpy\ndef f():\n    import timm\nclass C:\n    from seaanchor "
        "import training\n"
    )
    assert [m for m, _ in imports(ast.parse(source), everywhere=False)] == [
        "torch",
        "numpy",
        "seaanchor",
        "seaanchor.training",
    ]
    assert "timm" in [m for m, _ in imports(ast.parse(source), everywhere=True)]


def test_public_names_are_there():
    assert {*seaanchor.__all__, *seaanchor._MODULES} == set(dir(seaanchor))
    for name in seaanchor.__all__:
        assert getattr(seaanchor, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = seaanchor.nothing


@pytest.mark.exhaustive
def test_a_public_name_is_the_same_on_every_access():
    """Also after all submodules were imported: an import puts a submodule into the package under its own name."""
    code = (
        "import importlib, pkgutil, seaanchor\n"
        "names = [name for name in seaanchor.__all__]\n"
        "first = {name: getattr(seaanchor, name) for name in names}\n"
        "assert all(getattr(seaanchor, name) is first[name] for name in names), 'the second access'\n"
        "for module in pkgutil.walk_packages(seaanchor.__path__, 'seaanchor.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ModuleNotFoundError as error:\n"
        "            if error.name != 'gradio': raise\n"  # of the extra `app`
        "changed = [name for name in names if getattr(seaanchor, name) is not first[name]]\n"
        "print(changed, type(seaanchor.train).__name__)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[] function"


def test_no_public_name_is_that_of_a_submodule():
    below = {name.split(".")[0] for name in trees()}
    assert not below & set(seaanchor.__all__)
