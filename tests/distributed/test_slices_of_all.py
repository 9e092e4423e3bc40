"""Slices that are left to be chosen: two processes with unlike memory take the same, or end with the same error."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from seaanchor.config.recipes import fare
from seaanchor.config.schema import to_dict

pytestmark = pytest.mark.exhaustive  # two more processes; a step of two is in test_distributed.py

ROOMS = {"second-smaller": [5, 3], "no-room": [5, -1], "sharded": [5, 3]}


@pytest.fixture(scope="module")
def place(tmp_path_factory, clip_folder, launched) -> Path:
    """What each process chose of a batch of twelve images, and what became of it."""
    folder, rng = tmp_path_factory.mktemp("slices"), torch.Generator().manual_seed(0)
    for i in range(24):
        file = folder / "images" / ("apple", "fox")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=rng).numpy()).save(file)
    config = replace(fare(), model=str(clip_folder), train_data=str(folder / "images"), batch_size=12, device="cpu")
    jobs = []
    for name, images in ROOMS.items():
        asked = to_dict(replace(config, shard=name == "sharded"))
        jobs.append(
            {"do": "slices", "config": asked, "options": {"images": images, "target": str(folder / f"chosen-{name}")}}
        )
    done = launched(folder / "two.json", jobs)
    assert done.returncode == 0, done.stderr
    return folder


def chosen(place: Path, name: str) -> list:
    return [json.loads((place / f"chosen-{name}-{rank}").read_text()) for rank in range(2)]


def test_all_processes_take_the_smallest_slice(place):
    assert chosen(place, "second-smaller") == [3, 3]


def test_room_for_no_image_in_one_process_is_one_error_in_both(place):
    number = list(ROOMS).index("no-room")
    first, second = ((place / f"two-{number}-{rank}.txt").read_text() for rank in range(2))
    assert first == second and "a step does not fit into the memory of cpu, even with one image at a time" in first


def test_no_process_chooses_for_sharded_weights(place):
    """Whose bytes are not known; a size that is asked for is the same in all of them."""
    assert chosen(place, "sharded") == [None, None]
