"""Does the package work with the lowest versions that pyproject.toml allows? By hand: `make lowest`, ten minutes.

It makes a temporary environment, installs every dependency at its lower bound and the package without dependencies,
and trains, evaluates and reports on the embedded model. A bound that is too low ends it with the failing command.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = (
    ("recipes", "ls"),
    ("train", "lore-tiny", "--max-steps", "2", "--train-samples", "64", "--batch-size", "16", "--output", "{run}"),
    (
        "evaluate",
        "--model",
        "{run}/export",
        "--data",
        "photos-mini",
        "--samples",
        "16",
        "--suite",
        "clean,pgd",
        "--output",
        "{results}",
    ),
    ("report", "{run}", "{results}", "--output", "{page}"),
)


def lowest(requirements: list[str]) -> list[str]:
    """Each requirement pinned to its lower bound.

    >>> lowest(["numpy>=1.26", "open_clip_torch>=3.3,<5", "types-PyYAML"])
    ['numpy==1.26', 'open_clip_torch==3.3', 'types-PyYAML']
    """
    found = [re.match(r"([\w.-]+)(?:>=([\w.]+))?", requirement) for requirement in requirements]
    return [f"{m[1]}=={m[2]}" if m[2] else m[1] for m in found if m]


def run(*command: str | Path) -> None:
    """Run a command and show it; a failure ends the script with its exit code."""
    print("$", *command, flush=True)
    done = subprocess.run([str(part) for part in command], cwd=ROOT)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    """Install the lower bounds and try the package with them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(sys.executable, "-m", "venv", place / "venv")
        pip = (place / "venv/bin/python", "-m", "pip", "install", "--quiet")
        run(*pip, *lowest(project["dependencies"]))
        run(*pip, "--no-deps", ROOT)
        paths = {"run": place / "run", "results": place / "results", "page": place / "report.html"}
        for command in SMOKE:
            run(place / "venv/bin/seaanchor", *(part.format(**paths) for part in command))
    print("the lowest versions work:", ", ".join(lowest(project["dependencies"])))


if __name__ == "__main__":
    main()
