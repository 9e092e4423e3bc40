"""Each notebook runs from its first cell to its last, and draws; what it holds was drawn by these cells."""

from pathlib import Path

import nbformat
import pytest

from tools.notebooks import FOLDER, execute

NAMES = {"harden": 3, "words": 2, "gender": 2}  # pictures in each


def pictures(book: nbformat.NotebookNode) -> int:
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_no_notebook_is_forgotten():
    assert {file.stem for file in FOLDER.glob("*.ipynb")} == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_draws(name: str):
    file: Path = FOLDER / f"{name}.ipynb"
    kept, ran = nbformat.read(file, as_version=4), execute(file)
    assert pictures(kept) == pictures(ran) == NAMES[name]
    assert [cell.source for cell in kept.cells] == [cell.source for cell in ran.cells]


def test_a_cell_that_raises_ends_it(tmp_path):
    cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "wrong.ipynb")
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute(tmp_path / "wrong.ipynb")
