"""The scripts of the repository start from the root of a clone, as the documents write them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str) -> str:
    """The output of a command in the root of the clone, with the package alone on the path."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", ["build_data", "ship_variant"])
def test_a_script_starts_by_its_path(script):
    assert "--out" in run(sys.executable, f"tools/{script}.py", "--help")


def test_pretraining_starts_as_a_module():
    assert "--tiny-imagenet" in run(sys.executable, "-m", "tools.pretraining", "--help")


def test_make_hands_further_options_to_the_studies():
    command = run("make", "-n", "reproduce", "NAME=lore-front --extra cifar10=DIR")
    assert "-m studies lore-front --extra cifar10=DIR" in command
