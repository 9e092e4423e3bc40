"""Sizes of the source tree: what a newcomer can take in at a time."""

import ast
from pathlib import Path
from statistics import median

import seaanchor

ROOT = Path(seaanchor.__file__).parent
LONGEST_FUNCTION, LONGEST_FILE, MEDIAN_FILE, FLAT_FILES = 60, 300, 150, 8


def lines() -> dict[str, int]:
    """Lines of every source file."""
    return {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in ROOT.rglob("*.py")}


def functions() -> dict[str, int]:
    """Lines of every function."""
    return {
        f"{file.relative_to(ROOT)}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for file in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_no_function_is_too_long():
    assert not {name: length for name, length in functions().items() if length > LONGEST_FUNCTION}


def test_no_file_is_too_long():
    assert not {name: length for name, length in lines().items() if length > LONGEST_FILE}


def test_most_files_are_short():
    assert median(lines().values()) <= MEDIAN_FILE


def test_few_files_lie_flat():
    assert len(list(ROOT.glob("*.py"))) <= FLAT_FILES


def test_no_text_holds_marks_of_a_merge():
    """They are no error in Markdown."""
    top = Path(__file__).parent.parent
    folders = [top / name for name in ("src", "tests", "docs", "studies", "tools", "bench", "examples", "findings")]
    files = [*top.glob("*.md"), *(file for folder in folders for file in folder.rglob("*"))]
    texts = [file for file in files if file.suffix in (".md", ".py", ".yaml", ".toml", ".sh", ".html", ".css", ".csv")]
    marks = ("<" * 7 + " ", ">" * 7 + " ")
    marked = [file for file in texts if any(line.startswith(marks) for line in file.read_text("utf-8").splitlines())]
    assert len(texts) > 500 and marked == []
