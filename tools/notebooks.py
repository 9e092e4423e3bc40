"""`python -m tools.notebooks`: run the notebooks and keep what they print and draw."""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

QUIET = "ignore:IProgress"  # tqdm's advice to install widgets
FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def execute(file: Path, seconds: int = 600) -> NotebookNode:
    """A notebook with its cells run from the first to the last, in a folder of its own.

    Raises:
        CellExecutionError: a cell raised.
        CellTimeoutError: a cell took longer than that.
    """
    book = nbformat.read(file, as_version=4)
    with TemporaryDirectory() as folder:
        # `!seaanchor` is the command of this environment, and no terminal's width bends its lines
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        client = NotebookClient(book, timeout=seconds, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute(env=os.environ | {"PATH": path, "COLUMNS": "110", "NO_COLOR": "1", "PYTHONWARNINGS": QUIET})
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times, which change with every run
    return book


def main() -> None:
    """Run all, or those that are named."""
    for file in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        nbformat.write(execute(file), file)
        print(f"{file.name}: {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
