"""The policy from before a step on two processes: each keeps that of its own images, and the step is that of one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import ppo
from seaanchor.config.schema import ObjectiveConfig, PerturbationConfig, RunConfig, to_dict
from seaanchor.encoders.load import load_model

pytestmark = pytest.mark.exhaustive  # two more processes; a step of two is in test_distributed.py

COUNT = 11  # images: steps of 8 and of 3, of which one process takes two and the other one


@pytest.fixture(scope="module")
def whole(tmp_path_factory, clip_folder) -> RunConfig:
    """PPO with three updates a step, which move the policy beyond the clip, trained on one process."""
    folder, rng = tmp_path_factory.mktemp("policies"), torch.Generator().manual_seed(0)
    for i in range(COUNT):
        file = folder / "images" / ("apple", "fox", "zebra")[i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=rng).numpy()).save(file)
    config = replace(
        ppo(),
        model=str(clip_folder),
        train_data=str(folder / "images"),
        output=folder / "one",
        objective=ObjectiveConfig("ppo", clip=0.05),
        perturbation=PerturbationConfig("typographic", variants=2, sizes=(0.25, 0.4)),
        primal_steps=3,
        batch_size=8,
        epochs=1,
        lr=1e-3,
        average="none",
        log_every=1,
        save_every=100,
        device="cpu",
    )
    train(config)
    return config


@pytest.fixture(scope="module")
def two(whole, launched) -> Path:
    """The same on two processes, which take their images whole and in slices."""
    half = replace(whole, batch_size=4, output=whole.output.with_name("two"))
    sliced = replace(half, output=whole.output.with_name("two-in-slices"), slice_size=3)
    jobs = [{"do": "run", "config": to_dict(config), "options": {}} for config in (half, sliced)]
    done = launched(whole.output.with_name("two.json"), jobs)
    assert done.returncode == 0, done.stderr
    return whole.output.parent


def losses(folder: Path) -> list[float]:
    """Of the last update of each step, whose ratios are those to the policy from before it."""
    return [json.loads(line)["adversarial_loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["two", "two-in-slices"])
def test_losses_and_models_are_those_of_one_process(whole, two, name):
    wanted = losses(whole.output)
    assert len(wanted) == 2 and min(map(abs, wanted)) > 1e-3
    assert losses(two / name) == pytest.approx(wanted, rel=1e-3)
    pixels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, one, other = (
            load_model(str(folder)).encoder(pixels)
            for folder in (whole.model, whole.output / "export", two / name / "export")
        )
    assert (other - one).norm() < 1e-2 * (one - before).norm()  # of how far they moved
