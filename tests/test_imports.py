"""Data flows one way, and nothing heavy is imported before it is needed: rules of the source tree, kept by reading it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seaanchor

ROOT = Path(seaanchor.__file__).parent
HEAVY = ("torch", "torchvision", "open_clip", "timm", "transformers", "matplotlib", "accelerate", "numpy", "PIL")
LIGHT_MODULES = ("__init__", "cli", "config", "settings", "recipes", "errors")

PARTS = {"errors", "parts", "distances", "lettering", "wording"}  # what the four kinds of parts stand on
MAY_IMPORT = {
    "errors": set(),
    "parts": set(),
    "distances": set(),
    "places": set(),
    "hardware": {"errors"},
    "settings": {"errors"},
    "sharing": set(),
    "processes": {"errors"},
    "config": {"errors", "settings"},
    "legality": {"errors", "config"},
    "checkpoint": {"errors"},
    "store": {"errors", "checkpoint"},
    "lettering": {"errors"},
    "wording": {"errors"},
    "objectives": PARTS,  # the four kinds of parts never import each other
    "anchors": PARTS,
    "perturbations": PARTS,
    "adapters": PARTS,
    "encoders": {"errors", "kernels", "parts", "store", "wording"},
    "data": {"errors", "parts", "checkpoint", "store", "wording"},
    "averaging": {"errors", "config", "parts"},
    "method": {"errors", "parts"},
    "recipes": {"errors", "config", "parts", "wording", "objectives", "anchors", "perturbations", "adapters", "method"},
    "runs": {"errors", "config", "legality", "checkpoint"},
    "progress": {"errors", "config"},
    "tracking": {"errors", "config", "parts"},
    "flops": {"errors", "config", "parts"},
    "evaluation": {
        "store", "image_tables", "errors", "config", "parts", "perturbations", "kernels", "lettering", "encoders", "data", "checkpoint", "places",
        "processes", "runs",
    },
    "export": {"errors", "checkpoint", "encoders", "adapters"},
    "report": {"errors", "parts", "config", "checkpoint", "places", "progress", "runs", "encoders", "data", "perturbations"},
    "zoo": {"errors", "checkpoint", "encoders", "export", "kernels", "lettering"},
    "kernels": {"errors"},
    "step": {"errors", "config", "encoders", "kernels", "parts", "method", "averaging", "runs", "tracking"},
}
MAY_IMPORT["embedded"] = {"parts", "perturbations"}
MAY_IMPORT["image_tables"] = {"embedded", "parts", "store", "data", "encoders", "lettering", "perturbations"}
MAY_IMPORT["prepare"] = {
    "image_tables", "errors", "config", "legality", "parts", "adapters", "data", "embedded", "encoders", "method", "perturbations", "recipes", "sharing",
}
MAY_IMPORT["memory"] = {"errors"}
MAY_IMPORT["sharded"] = set()
MAY_IMPORT["meter"] = {"hardware"}
MAY_IMPORT["costs"] = {"meter", "adapters", "averaging", "config", "embedded", "encoders", "kernels", "memory", "method", "parts", "perturbations", "step"}
MAY_IMPORT["room"] = {"costs", "encoders", "memory", "prepare", "runs", "step"}
MAY_IMPORT["evaluation"] |= {"room"}
MAY_IMPORT["training"] = set(MAY_IMPORT) - {"report", "zoo", "flops"}
"""Packages and modules → what of ours they may import, inside functions too. Whatever is not named here, such as `cli`, stands in
front: it may import everything, and nothing named here may import it."""


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
    return {".".join(f.relative_to(ROOT).with_suffix("").parts): ast.parse(f.read_text()) for f in sorted(ROOT.rglob("*.py"))}


def test_data_flows_one_way():
    broken = []
    for name, tree in trees().items():
        package = name.split(".")[0]
        if package not in MAY_IMPORT:
            continue
        for module, line in imports(tree, everywhere=True):
            parts = module.split(".")
            target = parts[1] if parts[0] == "seaanchor" and len(parts) > 1 else None
            if target and target not in MAY_IMPORT[package] | {package, "__version__"}:
                broken.append(f"{name}:{line} imports {module}")
    assert not broken, "\n".join(broken)


def test_the_order_has_no_circle():
    """Taking away what depends on nothing that is left must take away everything."""
    left = {package: set(allowed) for package, allowed in MAY_IMPORT.items()}
    while left:
        free = {package for package, allowed in left.items() if not allowed & set(left)}
        assert free, f"these import each other: {sorted(left)}"
        left = {package: allowed for package, allowed in left.items() if package not in free}


def test_everything_named_is_there():
    names = {name.split(".")[0] for name in trees()}
    assert set(MAY_IMPORT) <= names


def test_imports_are_absolute():
    relative = [f"{name}:{line}" for name, tree in trees().items() for module, line in imports(tree, everywhere=True) if module.startswith(".")]
    assert not relative


@pytest.mark.parametrize("name", LIGHT_MODULES)
def test_light_modules_import_nothing_heavy(name):
    heavy = [(module, line) for module, line in imports(trees()[name], everywhere=False) if module.split(".")[0] in HEAVY]
    assert not heavy


def test_light_modules_pull_in_nothing_heavy_by_a_detour():
    modules = [f"seaanchor.{name}" for name in LIGHT_MODULES if name != "__init__"]
    code = f"import sys\nfor m in {modules}:\n    __import__(m)\n    print(m, [h for h in {HEAVY} if h in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines() == [f"{module} []" for module in modules]


def test_the_reader_of_imports_sees_what_it_should():
    source = "import torch\nif x:\n    import numpy\ndef f():\n    import timm\nclass C:\n    from seaanchor import training\n"
    assert [m for m, _ in imports(ast.parse(source), everywhere=False)] == ["torch", "numpy", "seaanchor", "seaanchor.training"]
    assert "timm" in [m for m, _ in imports(ast.parse(source), everywhere=True)]


def test_public_names_are_there():
    assert set(seaanchor.__all__) == set(dir(seaanchor))
    for name in seaanchor.__all__:
        assert getattr(seaanchor, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = seaanchor.nothing


def test_a_public_name_is_the_same_on_every_access():
    """Also after all submodules were imported: an import puts a submodule into the package under its own name."""
    code = (
        "import importlib, pkgutil, seaanchor\n"
        "names = [name for name in seaanchor.__all__]\n"
        "first = {name: getattr(seaanchor, name) for name in names}\n"
        "assert all(getattr(seaanchor, name) is first[name] for name in names), 'the second access'\n"
        "for module in pkgutil.walk_packages(seaanchor.__path__, 'seaanchor.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        importlib.import_module(module.name)\n"
        "changed = [name for name in names if getattr(seaanchor, name) is not first[name]]\n"
        "print(changed, type(seaanchor.train).__name__)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[] function"


def test_no_public_name_is_that_of_a_submodule():
    below = {name.split(".")[0] for name in trees()}
    assert not below & set(seaanchor.__all__)
