"""How many small faults in the mathematics the tests notice: one fault at a time, in a copy of the sources.

python tools/mutation.py --sample 150 --minutes 15 --output runs/mutation.json
python tools/mutation.py --only attacks/ball.py --sample 0

A fault is a comparison turned round, a plus made a minus, a changed number, a `detach` left out, a minimum made a
maximum and the like. Each is put into a copy of `src`, and the tests of that file run until the first failure, in a
process of its own. A fault that no test notices is printed: either a test is missing, or it changes nothing.
"""

import argparse
import ast
import copy
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = Path("src/seaanchor")
PRELOADED = ("torch", "pytest", "hypothesis", "open_clip", "peft")  # in memory before the first fork
TIMEOUT = 120  # seconds for the tests of one fault; a fault that makes them hang is noticed

LOSSES = ("tests/objectives", "tests/test_testing.py")
ANCHORS = ("tests/anchors", "tests/test_testing.py")
ON_MODELS = ("tests/attacks/test_classifiers.py",)
APGD = ("tests/attacks/test_apgd.py", "tests/attacks/test_apgd_classifier.py", "tests/perturbations/test_apgd.py")
TESTS: dict[str, tuple[str, ...]] = {
    "objectives/losses.py": LOSSES,
    "objectives/preference.py": LOSSES,
    "objectives/supervised.py": LOSSES,
    "objectives/embedding.py": LOSSES,
    "functional/distances.py": ("tests/anchors/test_constraints.py", *LOSSES),
    "functional/gradients.py": ("tests/attacks/test_pgd.py", *ON_MODELS, "tests/attacks/test_autoattack.py"),
    "anchors/constraints.py": ANCHORS,
    "anchors/duals.py": ANCHORS,
    "anchors/lagrangian.py": ANCHORS,
    "anchors/penalty.py": ANCHORS,
    "attacks/ball.py": ("tests/attacks/test_ball_properties.py", "tests/attacks/test_pgd.py"),
    "attacks/noise.py": ("tests/attacks/test_noise.py",),
    "attacks/pgd.py": ("tests/perturbations/test_pgd.py", "tests/attacks/test_pgd.py"),
    "attacks/apgd.py": APGD,
    "attacks/apgd_classifier.py": (*APGD, "tests/evaluation/test_low_precision.py"),
    "attacks/classification.py": ("tests/evaluation/test_low_precision.py", "tests/attacks/test_apgd_classifier.py"),
    "attacks/embedding.py": ("tests/attacks/test_embedding.py", *ON_MODELS),
    "attacks/on_model.py": ON_MODELS,
    "attacks/inputs.py": ON_MODELS,
    "attacks/square.py": ("tests/attacks/test_autoattack.py",),
    "attacks/autoattack.py": ("tests/attacks/test_autoattack.py",),
    "attacks/drawing.py": ("tests/perturbations/test_typographic.py", "tests/attacks/test_word_on_image.py"),
    "evaluation/statistics.py": ("tests/evaluation/test_statistics.py",),
}
"""Files with mathematics in them, and the tests that should notice a fault there."""

SWAPPED_OPERATORS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
TURNED_COMPARISONS: dict[type, type] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
SWAPPED_NAMES = {
    "min": "max",
    "max": "min",
    "amin": "amax",
    "amax": "amin",
    "argmax": "argmin",
    "mean": "sum",
    "sum": "mean",
    "sign": "abs",
    "exp": "log",
    "square": "abs",
    "ones_like": "zeros_like",
    "zeros_like": "ones_like",
    "all": "any",
    "any": "all",
    "log_softmax": "softmax",
}
DROPPED_CALLS = ("detach", "clone", "clamp", "sqrt", "abs", "float", "square")
SILENT = ("SeaAnchorError", "ValueError", "note")  # words for people are no mathematics


@dataclass(frozen=True)
class Fault:
    """One change.

    Attributes:
        file: below `src/seaanchor`.
        line: where.
        change: what, in words.
        number: of the change in its file.
    """

    file: str
    line: int
    change: str
    number: int


def changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str, Callable[[], None]]]:
    """Every place that can be changed: its node, what would be changed, and a function that does it to this tree."""
    skipped = _skipped(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        yield from _operators(node)
        yield from _values(node)
        yield from _calls(node)


def _skipped(tree: ast.Module) -> set[ast.AST]:
    """Nodes inside errors, annotations, imports and docstrings."""
    outer: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _called(node) in SILENT):
            outer.append(node)
        if isinstance(node, ast.AnnAssign | ast.arg):
            outer.append(node.annotation)
        if isinstance(node, ast.FunctionDef):
            outer.append(node.returns)
    return {inner for node in outer if node is not None for inner in ast.walk(node)}


def _operators(node: ast.AST) -> Iterator[tuple[ast.AST, str, Callable[[], None]]]:
    if isinstance(node, ast.Compare):
        for kinds in (SWAPPED_OPERATORS, TURNED_COMPARISONS):
            if type(node.ops[0]) in kinds:
                other = kinds[type(node.ops[0])]
                yield node, f"{_name(node.ops[0])} → {other.__name__}", _setter(node.ops, 0, other())
    elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPPED_OPERATORS:
        other = SWAPPED_OPERATORS[type(node.op)]
        yield node, f"{_name(node.op)} → {other.__name__}", lambda: setattr(node, "op", other())
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node, f"{_name(node.op)} left out", lambda: setattr(node, "op", ast.UAdd())
    elif isinstance(node, ast.IfExp):
        yield node, "branches exchanged", lambda: _exchange(node)


def _exchange(node: ast.IfExp) -> None:
    node.body, node.orelse = node.orelse, node.body


def _values(node: ast.AST) -> Iterator[tuple[ast.AST, str, Callable[[], None]]]:
    if not isinstance(node, ast.Constant):
        return
    if isinstance(node.value, bool):
        yield node, f"{node.value} → {not node.value}", lambda: setattr(node, "value", not node.value)
    elif isinstance(node.value, int | float):
        changed = node.value + 1 if isinstance(node.value, int) else 2 * node.value if node.value else 1.0
        yield node, f"{node.value} → {changed}", lambda: setattr(node, "value", changed)


def _calls(node: ast.AST) -> Iterator[tuple[ast.AST, str, Callable[[], None]]]:
    if isinstance(node, ast.FunctionDef) and any("no_grad" in ast.unparse(d) for d in node.decorator_list):
        kept = [d for d in node.decorator_list if "no_grad" not in ast.unparse(d)]
        yield node, "no_grad left out", lambda: setattr(node, "decorator_list", kept)
    if not isinstance(node, ast.Call):
        return
    name = _called(node)
    if name in SWAPPED_NAMES and isinstance(node.func, ast.Attribute):
        yield node, f"{name} → {SWAPPED_NAMES[name]}", lambda: setattr(node.func, "attr", SWAPPED_NAMES[name])
    if name in DROPPED_CALLS and isinstance(node.func, ast.Attribute):
        yield node, f"{name} left out", lambda: _drop(node)
    if name == "clamp" and len(node.keywords) == 1:
        other = {"min": "max", "max": "min"}[str(node.keywords[0].arg)]
        yield node, f"clamp({node.keywords[0].arg}) → {other}", lambda: setattr(node.keywords[0], "arg", other)


def _drop(node: ast.Call) -> None:
    """`x.detach()` becomes `(lambda *_, **__: x)()`, so that the node keeps its place in the tree."""
    assert isinstance(node.func, ast.Attribute)
    node.func = ast.parse(f"lambda *_, **__: {ast.unparse(node.func.value)}", mode="eval").body


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _name(node: ast.AST) -> str:
    return type(node).__name__


def _setter(items: list, place: int, value: object) -> Callable[[], None]:
    return lambda: items.__setitem__(place, value)


def faults(file: str) -> list[Fault]:
    """Every change of a file."""
    tree = ast.parse((ROOT / SOURCES / file).read_text())
    return [Fault(file, getattr(node, "lineno", 0), change, i) for i, (node, change, _) in enumerate(changes(tree))]


def changed_source(fault: Fault) -> str:
    """The file with the fault in it."""
    tree = copy.deepcopy(ast.parse((ROOT / SOURCES / fault.file).read_text()))
    for number, (_, _, apply) in enumerate(changes(tree)):
        if number == fault.number:
            apply()
            break
    return ast.unparse(ast.fix_missing_locations(tree))


def noticed(fault: Fault | None, place: Path, tests: tuple[str, ...]) -> bool:
    """Whether a test fails with the fault in the copy at `place`; None runs the tests as they are."""
    file = place / SOURCES / fault.file if fault else None
    before = file.read_text() if file else ""
    if file and fault:
        file.write_text(changed_source(fault))
    try:
        return _run_tests(place, tests) != 0
    finally:
        if file:
            file.write_text(before)


def _run_tests(place: Path, tests: tuple[str, ...]) -> int:
    """Exit status of the tests in a process of its own, which has torch and pytest in memory already."""
    child = os.fork()
    if child == 0:
        os.setsid()
        _be_quiet()
        os.chdir(place)
        sys.path[:0] = [str(place / "src"), str(place)]
        os.environ["PYTHONPATH"] = str(place / "src")
        import pytest

        plain = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:timeout", "-o", "addopts=--import-mode=importlib")
        status = pytest.main([*plain, *tests])
        os._exit(int(status))
    return _wait(child)


def _be_quiet() -> None:
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.dont_write_bytecode = True


def _wait(child: int) -> int:
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


def copy_tree(place: Path) -> None:
    """What the tests need, in a folder of its own."""
    for name in ("src", "tests", "tools", "studies", "bench"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)


def sampled(files: list[str], sample: int, seed: int) -> list[Fault]:
    """All faults of the files, or some of them in a random order, each file's in turn."""
    every = [fault for file in files for fault in faults(file)]
    random.Random(seed).shuffle(every)
    return every[:sample] if sample else every


def main() -> None:
    """Run the tests with each fault, print those that nobody noticed and the share that was noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="files below src/seaanchor; all of the table by default")
    parser.add_argument("--sample", type=int, default=150, help="how many faults; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--minutes", type=float, default=15.0, help="stop after so long")
    parser.add_argument("--output", type=Path, help="JSON file of the outcomes")
    options = parser.parse_args()
    for package in PRELOADED:
        import_module(package)
    import_module("torch").set_num_threads(1)
    files = options.only or list(TESTS)
    begun, missed, count = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copy_tree(place)
        for tests in sorted({TESTS[file] for file in files}):
            if noticed(None, place, tests):
                sys.exit(f"tests fail without any fault: {' '.join(tests)}")
        for fault in sampled(files, options.sample, options.seed):
            if time.monotonic() - begun > 60 * options.minutes:
                break
            count += 1
            if not noticed(fault, place, TESTS[fault.file]):
                missed.append(fault)
                print(f"not noticed  {fault.file}:{fault.line}  {fault.change}", flush=True)
    print(f"{count - len(missed)} of {count} faults noticed in {(time.monotonic() - begun) / 60:.1f} minutes")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps({"count": count, "missed": [asdict(fault) for fault in missed]}, indent=2))


if __name__ == "__main__":
    main()
