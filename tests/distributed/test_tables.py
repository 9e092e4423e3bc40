"""Two processes and one end with the same multiplier for every image, though each sees other images."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import lore
from seaanchor.config.schema import AnchorConfig, PerturbationConfig, RunConfig, to_dict
from seaanchor.training.run_folder import RunFolder
from seaanchor.utils.checkpoint import load_state

pytestmark = pytest.mark.exhaustive  # two more processes; a step of two is in test_distributed.py

COUNT = 9  # images: steps of eight and of one, in which the second process has padding alone
CONTROLS = {
    "table": {"dual": "table", "dual_lr": 2.0},
    "table-pi": {"dual": "table", "dual_lr": 2.0, "dual_control": "pi", "dual_proportional": 2.0},
    "network-pi": {"dual_lr": 1e-3, "dual_control": "pi", "dual_proportional": 2.0},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, clip_folder, launched) -> dict[str, tuple[RunConfig, RunConfig]]:
    """Runs of one process, and of two at half the images each in micro-batches of two."""
    folder, rng = tmp_path_factory.mktemp("tables"), torch.Generator().manual_seed(0)
    for i in range(COUNT):
        file = folder / "images" / ("apple", "fox", "zebra")[i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng).numpy()).save(file)
    base = replace(
        lore(),
        model=str(clip_folder),
        train_data=str(folder / "images"),
        perturbation=PerturbationConfig(norm="l2", epsilon="0.3", num_steps=3),
        primal_steps=2,
        batch_size=8,
        epochs=3,
        lr=1e-4,
        log_every=1,
        save_every=100,
        device="cpu",
    )
    made, jobs = {}, []
    for name, settings in CONTROLS.items():
        one = replace(base, anchor=AnchorConfig("lagrangian", rho=1e-3, **settings), output=folder / f"{name}-one")
        two = replace(one, batch_size=2, grad_accumulation=2, output=folder / f"{name}-two")
        made[name] = one, two
        jobs.append({"do": "run", "config": to_dict(two), "options": {"alike": str(folder / f"{name}.json")}})
    done = launched(folder / "jobs.json", jobs)
    assert done.returncode == 0, done.stderr
    for one, _ in made.values():
        train(one)
    return made


def dual_of(config: RunConfig) -> dict[str, torch.Tensor]:
    return load_state(RunFolder(config.output).checkpoints()[-1])["dual"]


@pytest.mark.parametrize("name", CONTROLS)
def test_two_processes_move_multipliers_as_one_does(runs, name):
    one, two = (dual_of(config) for config in runs[name])
    assert one.keys() == two.keys()
    for key, wanted in one.items():
        assert torch.allclose(two[key], wanted, rtol=1e-3, atol=1e-4), key
    if "table" in name:
        table = one["multiplier_N"]
        assert len(table) == COUNT and (table != 1).all() and len(table.unique()) == COUNT


@pytest.mark.parametrize("name", CONTROLS)
def test_both_processes_end_with_the_same_numbers(runs, name):
    output = runs[name][0].output
    alike, processes, tensors = json.loads((output.parent / f"{name}.json").read_text())
    assert alike and processes == 2 and tensors > 1
