"""Nothing phones home: commands run in a process in which no name is looked up and nothing is connected to, and every
attempt is counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
tried = []
def hook(event, arguments):
    outside = event == "socket.connect" and isinstance(arguments[1], tuple)
    if outside or event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        tried.append(f"{event}{arguments}"[:200])
        raise OSError("there is no network")
sys.addaudithook(hook)
from seaanchor.cli import app
lines, output = sys.argv[1:]
found = []
for line in json.load(open(lines)):
    sys.argv, before, code = ["seaanchor", *line], len(tried), 0
    try:
        app.main()
    except SystemExit as end:
        code = end.code or 0
    found.append([line, code, tried[before:]])
json.dump(found, open(output, "w"))
"""


def called(lines: list[list[str]], folder: Path) -> list[tuple[list[str], int, list[str]]]:
    """Each command's exit code, and what it tried to reach."""
    (folder / "lines.json").write_text(json.dumps(lines))
    there = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    there |= {"HF_HOME": str(folder / "home"), "SEAANCHOR_CACHE": str(folder / "cache")}
    arguments = [sys.executable, "-c", SCRIPT, str(folder / "lines.json"), str(folder / "found.json")]
    subprocess.run(arguments, cwd=folder, env=there, check=True, timeout=280)
    return json.loads((folder / "found.json").read_text())


@pytest.fixture
def table(image_folder, tmp_path) -> str:
    """Preferences as a table of a local file, which the data library would count on a public server."""
    datasets = pytest.importorskip("datasets")
    images = [str(path) for path in sorted(image_folder.rglob("*.jpg"))]
    rows = {"image": images, "chosen": ["a dog"] * len(images), "rejected": [f"a cat {i}" for i in range(len(images))]}
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(tmp_path / "rows.parquet")
    return str(tmp_path / "rows.parquet")


def test_reading_and_importing_data_tries_to_reach_nothing(image_folder, table, tmp_path):
    """The last line does ask the Hub, so that attempts are seen to be counted."""
    lines = [
        ["env"],
        ["recipes", "ls"],
        ["data", "inspect", str(image_folder)],
        ["data", "inspect", table],
        ["data", "import", table, "--output", "imported"],
        ["data", "inspect", "imported/preferences.jsonl"],
        ["data", "inspect", "hf-data:nobody/nothing"],
    ]
    *found, asking = called(lines, tmp_path)
    assert [(line, code, tried) for line, code, tried in found if code or tried] == []
    assert asking[1] and asking[2]
