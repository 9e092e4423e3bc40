"""A tower of depthwise convolutions with batch normalisation on two processes, and on torch's own kernels in one."""

from contextlib import nullcontext
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from torch import nn

from seaanchor.config.recipes import fare, lore
from seaanchor.config.schema import AnchorConfig, PerturbationConfig, RunConfig, to_dict
from seaanchor.encoders.kernels import choice, fast_kernels
from seaanchor.encoders.kernels.convolution_layers import Passed
from seaanchor.training.setup import prepare

pytestmark = pytest.mark.exhaustive  # two more processes; a step of two is in test_distributed.py

WORKER = Path(__file__).with_name("distributed_worker.py")
_spec = spec_from_file_location("distributed_worker", WORKER)
worker = module_from_spec(_spec)
_spec.loader.exec_module(worker)
TOWER = "test_efficientnet"  # squeeze and excitation, and no activation with a kink
RECIPES = {"fare": fare, "lore": lore}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Eleven images, and weights whose normalisations do something: steps of eight images and of three."""
    folder, rng = tmp_path_factory.mktemp("convolutions"), torch.Generator().manual_seed(0)
    for i in range(11):
        file = folder / "images" / ("apple", "fox", "zebra")[i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng).numpy()).save(file)
    torch.manual_seed(0)
    tower = timm.create_model(TOWER)
    for layer in tower.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor, low in ((layer.running_var, 0.5), (layer.weight.data, 1.0), (layer.running_mean, -0.2)):
                tensor.copy_(low + torch.rand(tensor.shape, generator=rng))
    torch.save(tower.state_dict(), folder / "weights.pt")
    return folder


def run_of(place: Path, name: str) -> RunConfig:
    """Two attack steps in an l2 ball, whose directions do not flip with the last digit of a gradient."""
    recipe = RECIPES[name]()
    changes = {"anchor": AnchorConfig("lagrangian", rho=1e-3, dual_lr=0.01, dual_hidden=16)} if name == "lore" else {}
    return replace(
        recipe,
        model=f"timm:{TOWER}",
        pretrained=str(place / "weights.pt"),
        image_size=64,
        train_data=str(place / "images"),
        perturbation=PerturbationConfig(norm="l2", epsilon="3", num_steps=2),
        batch_size=8,
        epochs=1,
        primal_steps=1,
        device="cpu",
        **changes,
    )


@pytest.fixture(scope="module")
def two(place, launched) -> None:
    """What two processes find, on the kernels that are chosen."""
    jobs = []
    for name in RECIPES:
        half = replace(run_of(place, name), batch_size=4)
        options = {"target": str(place / f"two-{name}.pt")}
        jobs.append({"do": "gradients", "config": to_dict(half), "options": options})
    done = launched(place / "two.json", jobs)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_gradients_of_two_processes_are_those_of_torchs_kernels_in_one(place, two, monkeypatch, name):
    """Of every weight, by its norm."""
    config = run_of(place, name)
    policy = prepare(config).policy
    with fast_kernels(policy, torch.float32, 0):
        assert sum(type(layer) is Passed for layer in policy.modules()) == 13
    monkeypatch.setattr(choice, "fast_convolutions", lambda module: nullcontext())
    worker.gradients(config, str(place / "one.pt"))
    wanted, found = torch.load(place / "one.pt"), torch.load(place / f"two-{name}.pt")
    assert found.keys() == wanted.keys() and len(wanted) == (6 if name == "lore" else 4)
    sizes = [parameter.numel() for parameter in policy.parameters()]
    for key, theirs in wanted.items():
        parts = sizes if key.startswith("policy") else [theirs.numel()]
        for mine, other in zip(found[key].split(parts), theirs.split(parts), strict=True):
            assert 0 < other.norm() < torch.inf, key
            assert (mine - other).norm() <= 2e-4 * other.norm(), key
