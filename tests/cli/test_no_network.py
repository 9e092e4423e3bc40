"""Nothing phones home: every command is run in a process in which no name is looked up and nothing is connected to, and
every attempt is counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seaanchor.cli.examples import EXAMPLES

COMMANDS = {names for names in EXAMPLES if not any(other[: len(names)] == names != other for other in EXAMPLES)}
SERVES = {("app",)}  # until it is interrupted; tests/app/test_page.py watches what its page asks for
SCRIPT = """
import json, sys
from dataclasses import replace
tried = []
def hook(event, arguments):
    outside = event == "socket.connect" and isinstance(arguments[1], tuple)
    if outside or event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        tried.append(f"{event}{arguments}"[:200])
        raise OSError("there is no network")
sys.addaudithook(hook)
from seaanchor.cli import app, quickstart
quickstart.BASE, quickstart.DATA, quickstart.SAMPLES = "seaanchor-tiny", "photos-mini", 4
for name in ("fare_quick", "lore_quick", "dpo_lite", "dpo_linear_lite"):
    recipe = getattr(quickstart, name)()
    words = replace(recipe.perturbation, variants=1) if recipe.perturbation.variants else recipe.perturbation
    short = replace(recipe, max_steps=1, batch_size=2, warmup=0, perturbation=words, train_data="photos-mini/train")
    setattr(quickstart, name, lambda short=short: short)
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


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
@pytest.mark.timeout(290)
def test_no_command_tries_to_reach_anything(image_folder, clip_folder, table, tmp_path):
    data, model = str(image_folder), str(clip_folder)
    inputs, clean = ["--model", model, "--train-data", data], ["--suite", "clean", "--samples", "4"]
    steps = ["--max-steps", "1", "--batch-size", "2", "--num-steps", "1", "--device", "cpu"]
    lines = [
        ["env"],
        ["cache", "ls"],
        ["recipes", "ls"],
        ["recipes", "cat", "lore"],
        ["recipes", "cp", "fare-tiny", "mine.yaml"],
        ["recipes", "validate", "mine.yaml"],
        ["attack", "typographic", "--data", data, "--output", "lettered", "--image-size", "64"],
        ["attack", "pgd", "--data", data, "--output", "attacked", "--model", model, "--num-steps", "1"],
        ["attack", "apgd", "--data", data, "--output", "searched", "--model", model, "--num-steps", "2"],
        ["data", "inspect", data],
        ["data", "inspect", table],
        ["data", "pairs", "--data", "emoji-people", "--output", "pairs.jsonl"],
        ["data", "import", table, "--output", "imported"],
        ["data", "build", "--data", data, "--output", "shards"],
        ["data", "emoji-scenes", "--output", "scenes", "--train", "1", "--test", "1", "--image-size", "64"],
        ["train", "fare", "--output", "run", *inputs, *steps],
        [
            "train",
            "dpo-linear",
            "--model",
            model,
            "--train-data",
            "pairs.jsonl",
            "--perturbation.kind",
            "none",
            "--output",
            "steered",
            *steps[:4],
        ],
        ["steer", "steered", "--t", "0.5", "--output", "half"],
        ["evaluate", "--model", "run/export", "--data", data, "--suite", "clean,apgd", "--num-steps", "1"],
        ["evaluate", "--model", model, "--data", data, *clean],
        ["report", "run", "--device", "cpu"],
        ["export", "--model", "run/export", "--output", "again"],
        [
            "sweep",
            "mine.yaml",
            "--vary",
            "lr=1e-5",
            "--output",
            "sweep",
            "--data",
            data,
            "--suite",
            "clean,typographic",
            "--samples",
            "4",
            *inputs,
            *steps,
        ],
        ["quickstart", "--output", "quick"],
        ["cache", "clear"],
    ]
    found = called(lines, tmp_path)
    assert {names for names in COMMANDS for line in lines if tuple(line[: len(names)]) == names} == COMMANDS - SERVES
    assert [(line, tried) for line, _, tried in found if tried] == []
    assert [(line, code) for line, code, _ in found if code] == []
