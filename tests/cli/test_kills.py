"""A command that is killed, at whatever file operation, does its work when it is given again: the same files as if
nothing had happened, none left over, and nothing by halves in its place meanwhile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

WORKER = Path(__file__).with_name("kill_worker.py")
TRAIN = "--max-steps 2 --epochs 2 --batch-size 2 --log-every 1 --save-every 1 --device cpu --perturbation.num-steps 1"
JOBS = {
    "attack": {"arguments": "attack typographic --data ../../data --output out --image-size 32", "whole": "out"},
    "recipes": {"arguments": "recipes cp lore mine.yaml", "whole": "mine.yaml"},
    "build": {"arguments": "data build --data ../../data --output out", "whole": "out/test"},
    "scenes": {"arguments": "data emoji-scenes --output out --train 1 --test 1 --image-size 32", "whole": "out"},
    "pairs": {"arguments": "data pairs --data emoji-people --output out.jsonl", "whole": "out.jsonl", "every": 60},
    "import": {"arguments": "data import ../../set --output out", "whole": "out"},
    "export": {"arguments": "export --model ../../model --output out", "whole": "out"},
    "export over another": {
        "before": ["export --model seaanchor-tiny --output out"],
        "arguments": "export --model ../../model --output out --half",
    },
    "train": {
        "arguments": f"train lore --model ../../model --train-data ../../data --output out --resume auto {TRAIN}"
    },
    "steer": {
        "before": [f"train dpo-linear --model ../../model --train-data ../../data --output run {TRAIN}"],
        "arguments": "steer run --t 0.5 --output out",
        "whole": "out",
    },
    "sweep": {
        "arguments": "sweep lore --vary anchor.rho=0.1,0.2 --data ../../data --suite clean --x clean --y clean "
        f"--model ../../model --train-data ../../data --output out {TRAIN}",
        "every": 5,
    },
}
QUICK = ("attack", "recipes")


@pytest.fixture(scope="module")
def place(tmp_path_factory, clip_folder) -> Path:
    """Four images of two classes, a model and preferences."""
    folder, rng = tmp_path_factory.mktemp("kills"), torch.Generator().manual_seed(0)
    for i in range(4):
        file = folder / "data" / ("apple", "zebra")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng).numpy()).save(file)
    (folder / "model").symlink_to(clip_folder)
    return folder


def killed(place: Path, names: tuple[str, ...], **settings: int) -> dict:
    """What became of commands that were killed again and again."""
    split = {"arguments": str.split, "before": lambda lines: [line.split() for line in lines]}
    jobs = {name: {key: split.get(key, lambda x: x)(value) for key, value in JOBS[name].items()} for name in names}
    jobs = {name: job | settings for name, job in jobs.items()}
    file, report = place / "jobs.json", place / "report.json"
    file.write_text(json.dumps(jobs))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, str(WORKER), str(file), str(report)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(report.read_text())


def assert_survived(found: dict) -> None:
    for name, outcome in found.items():
        assert not outcome["wrong"], f"{name}: " + "\n".join(outcome["wrong"])
        assert outcome["kills"] > 0


def test_a_killed_command_does_its_work_when_it_is_given_again(place):
    found = killed(place, QUICK, every=6)
    assert_survived(found)
    assert found["attack"]["operations"] > 20


@pytest.mark.exhaustive
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", JOBS)
def test_every_command_does(place, name):
    if name == "import":
        datasets = pytest.importorskip("datasets")
        pictures = [str(path) for path in sorted((place / "data").rglob("*.png"))]
        table = {"image": pictures, "chosen": ["a", "b", "a", "b"], "rejected": ["b", "a", "b", "a"]}
        datasets.Dataset.from_dict(table).cast_column("image", datasets.Image()).save_to_disk(place / "set")
    assert_survived(killed(place, (name,)))
