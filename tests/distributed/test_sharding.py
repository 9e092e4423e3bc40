"""Sharded weights: the same run as with full ones, in a fraction of the memory, and files that do not depend on it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from torch import nn

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import dpo_linear, lore
from seaanchor.config.schema import AnchorConfig, PerturbationConfig, RunConfig, to_dict
from seaanchor.config.validation import check
from seaanchor.distributed.sharding import blocks, gather_full, is_sharded, shard_average_state, shard_optimizer_state
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.training.run_folder import RunFolder
from seaanchor.utils.checkpoint import load_state, save_state

WORKER = Path(__file__).with_name("distributed_worker.py")
_spec = spec_from_file_location("distributed_worker", WORKER)
worker = module_from_spec(_spec)
_spec.loader.exec_module(worker)

LAUNCHER = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--nnodes",
    "1",
    "--rdzv-backend",
    "c10d",
    "--rdzv-endpoint",
    "127.0.0.1:0",
]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def job(do: str, config: RunConfig, **options) -> dict:
    return {"do": do, "config": to_dict(config), "options": options}


def outcomes(place: Path, number: int) -> list[str]:
    return [(place / f"two-{number}-{rank}.txt").read_text() for rank in range(2)]


def state_of(folder: Path) -> dict:
    return load_state(RunFolder(folder).checkpoints()[-1])


@pytest.fixture(scope="module")
def base(tmp_path_factory, clip_folder) -> RunConfig:
    """LORE with random starts, two updates a step and two averages of the weights: four steps of eight images and of
    three; attacks in l2, for a sign turns with the last bit."""
    from PIL import Image

    place, rng = tmp_path_factory.mktemp("sharded"), torch.Generator().manual_seed(0)
    for i in range(11):
        file = place / "images" / ("apple", "fox", "zebra")[i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng).numpy()).save(file)
    anchor = AnchorConfig("lagrangian", rho=1e-3, dual_lr=0.01, dual_hidden=16, reference="ema")
    return replace(
        lore(),
        model=str(clip_folder),
        train_data=str(place / "images"),
        output=place / "whole",
        anchor=anchor,
        primal_steps=2,
        grad_clip=1.0,
        perturbation=PerturbationConfig(norm="l2", epsilon="0.3", num_steps=3),
        batch_size=8,
        epochs=2,
        lr=1e-4,
        average="beta",
        log_every=1,
        save_every=100,
        device="cpu",
        resume="auto",
        val_data=(str(place / "images"),),
        eval_every=2,
    )


def at(base: RunConfig, name: str, **changes) -> RunConfig:
    return replace(base, output=base.output.with_name(name), **changes)


@pytest.fixture(scope="module")
def one(base) -> dict:
    """What one process finds; also a run of its own that is stopped in the middle."""
    place = base.output.parent
    worker.gradients(base, str(place / "one.pt"))
    train(base)
    with pytest.raises(SeaAnchorError, match="stopped at step 2 of 4"):
        worker.run(at(base, "one-stopped"), stop=2)
    return torch.load(place / "one.pt")


@pytest.fixture(scope="module")
def two(base, one) -> subprocess.CompletedProcess:
    """Two processes that hold half of the weights each; one of them is killed in the last job."""
    place = base.output.parent
    half = replace(base, batch_size=4, shard=True)
    shutil.copytree(place / "one-stopped", place / "one-two")
    jobs = [
        job("gradients", half, target=str(place / "two.pt")),
        job(
            "gradients",
            replace(half, batch_size=2, grad_accumulation=2, slice_size=1, checkpoint_activations=True),
            target=str(place / "parts.pt"),
        ),
        job("gradients", replace(half, attack_precision="bf16"), target=str(place / "bf16.pt")),
        job("run", at(half, "two", save_every=3), held=str(place / "held")),
        job("run", at(half, "two-stopped"), stop=2),
        job("run", at(half, "one-two")),
        job("run", at(half, "killed"), kill=3) | {"ends": True},
    ]
    file = place / "two.json"
    file.write_text(json.dumps(jobs))
    command = [*LAUNCHER, "--nproc-per-node", "2", str(WORKER), str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=ENVIRONMENT)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["two", "parts", "bf16"])
def test_losses_and_gradients_are_those_of_one_process(base, one, two, name):
    """To 1e-4 of the largest of each kind; with micro-batches in slices, recomputed activations and attacks on a
    low-precision copy, too: those to 6e-2, where attacks in fp32 are a fifth apart, for a block in shards keeps its
    own kernels, and bf16 rounds what they compute to neighbours 2⁻⁸ apart."""
    place = base.output.parent
    assert (place / f"{name}.pt").exists(), two.stderr
    found, wanted = torch.load(place / f"{name}.pt"), one
    if name == "bf16":
        worker.gradients(replace(base, attack_precision="bf16"), str(place / "one-bf16.pt"))
        wanted = torch.load(place / "one-bf16.pt")
    assert found.keys() == wanted.keys() and len(wanted) == 4 * 3
    for key, theirs in found.items():
        scale = wanted[key].abs().max()
        assert scale > 0 and (theirs - wanted[key]).abs().max() <= (6e-2 if name == "bf16" else 1e-4) * scale, key


@pytest.mark.exhaustive
def test_each_process_holds_half(base, two):
    """Of weights, moments, both averages and the reference."""
    place = base.output.parent
    for rank in range(2):
        held, whole_ones = json.loads((place / f"held-{rank}").read_text())
        assert held.keys() == {"policy", "moments", "average", "moving_reference", "reference"}
        for name, size in held.items():
            assert 0.49 < size / whole_ones[name] < 0.51, (rank, name, size, whole_ones[name])


@pytest.mark.exhaustive
def test_weights_logs_and_exports_are_those_of_one_process(base, two):
    place, settings = base.output.parent, (base.model, None, None)
    assert outcomes(place, 3) == ["done", "done"], two.stderr
    start, wanted, found = load_model(*settings).encoder.state_dict(), state_of(base.output), state_of(place / "two")
    assert apart(found["policy"], wanted["policy"], start) < 5e-3 and found["average"]["index"] == 4
    assert [row["step"] for row in RunFolder(place / "two").rows()] == [
        row["step"] for row in RunFolder(base.output).rows()
    ]
    for row, other in zip(RunFolder(place / "two").rows(), RunFolder(base.output).rows(), strict=True):
        assert row.keys() == other.keys()
        for key in {"adversarial_loss", "clean_distance", "multiplier"} & row.keys():
            assert row[key] == pytest.approx(other[key], rel=1e-3), (row["step"], key)
        assert row.get("eval") == other.get("eval") and row.get("eval_averaged") == other.get("eval_averaged")
    for name in ("export", "export-averaged"):
        mine, theirs = (load_model(f"local-dir:{folder / name}", None, None) for folder in (place / "two", base.output))
        assert mine.module.state_dict().keys() == theirs.module.state_dict().keys()
        assert (
            apart(mine.encoder.state_dict(), theirs.encoder.state_dict(), start) < 5e-3
        )  # AdamW makes steps of rounding where a gradient is 0
        pixels_BCHW = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(mine.encoder(pixels_BCHW), theirs.encoder(pixels_BCHW), rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
def test_a_checkpoint_goes_on_with_full_or_sharded_weights(base, two):
    """Of one process in two that shard the weights, and the other way round: each ends near the run that was never
    stopped, in a file of the same kind."""
    place = base.output.parent
    assert "stopped at step 2 of 4" in outcomes(place, 4)[0] == outcomes(place, 4)[1]
    shutil.copytree(place / "two-stopped", place / "two-one")
    train(at(base, "two-one"))
    start, wanted = load_model(base.model, None, None).encoder.state_dict(), state_of(base.output)
    for name in ("one-two", "two-one"):
        state = state_of(place / name)
        assert state["step"] == 4 and shape_of(state) == shape_of(wanted)
        assert apart(state["policy"], wanted["policy"], start) < 5e-3
        for kind in ("average", "moving_reference"):
            before = list(start.values())
            assert (
                apart(
                    dict(enumerate(state[kind]["mean"])), dict(enumerate(wanted[kind]["mean"])), dict(enumerate(before))
                )
                < 5e-3
            ), (name, kind)


@pytest.mark.exhaustive
def test_a_killed_process_ends_the_run(base, two):
    assert two.returncode != 0 and "error: process 1 of 2 was lost" in two.stderr
    assert [row["step"] for row in RunFolder(base.output.with_name("killed")).rows()] == [0, 1, 2, 2]


def test_what_is_gathered_at_a_time():
    """Repeated layers, inner ones first; nothing of a row of unlike layers."""
    layer = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    inner = nn.ModuleList([layer, nn.Sequential(nn.Linear(2, 2))])
    stage = nn.Sequential(inner[0], inner[1])
    tower = nn.Sequential(stage, nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))))
    assert (
        [type(block) for block in blocks(tower)] == [nn.Sequential] * 6
        and blocks(tower)[-2] is stage
        and blocks(tower)[-1] is tower[1]
    )
    assert blocks(nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2))) == []


def test_full_weights_pass_through():
    weight = nn.Parameter(torch.ones(2, 2))
    state = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2, 2)}},
        "param_groups": [{"lr": 1.0, "params": [0]}],
    }
    assert shard_optimizer_state(state, [weight]) == state and gather_full(state, keep=True) == state
    assert shard_average_state({"mean": [weight], "index": 1}, [weight])["mean"][0] is weight and not is_sharded(
        nn.Linear(2, 2)
    )


@pytest.mark.parametrize("kind", ["linear", "lora"])
def test_adapters_are_not_sharded(kind):
    recipe = dpo_linear() if kind == "linear" else lore()
    with pytest.raises(SeaAnchorError, match="adapter full"):
        check(replace(recipe, shard=True, adapter=replace(recipe.adapter, kind=kind)))


def apart(found: dict, wanted: dict, start: dict) -> float:
    """Distance of two trained sets of weights as a share of the way that training took."""
    moved = sum((wanted[key] - value).square().sum() for key, value in start.items()).sqrt()
    assert moved > 0
    return float(sum((wanted[key] - found[key]).square().sum() for key in start).sqrt() / moved)


def shape_of(state: object) -> object:
    """Names, shapes and types of a state."""
    if isinstance(state, dict):
        return {key: shape_of(value) for key, value in state.items()}
    if isinstance(state, list):
        return [shape_of(value) for value in state]
    return (state.shape, state.dtype) if isinstance(state, torch.Tensor) else type(state)


@pytest.mark.parametrize("fused", [True, False])
def test_the_state_of_a_convolution_goes_on_in_its_own_layout(tmp_path, fused):
    """Weights are channels-last and files hold no layout; a fused optimizer pairs weights and state as they lie."""

    def step(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer, seed: int) -> None:
        rng = torch.Generator().manual_seed(seed)
        weight.grad = torch.randn(weight.shape, generator=rng).to(memory_format=torch.channels_last)
        optimizer.step()

    start = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    weight = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([weight], lr=1e-2, fused=fused)
    step(weight, optimizer, 1)
    save_state(tmp_path / "state.safetensors", {"weight": weight, "optimizer": optimizer.state_dict()})
    state = load_state(tmp_path / "state.safetensors")
    again = torch.nn.Parameter(start.clone())
    again.data.copy_(state["weight"])
    resumed = torch.optim.AdamW([again], lr=1e-2, fused=fused)
    resumed.load_state_dict(shard_optimizer_state(state["optimizer"], [again]))
    for values, turn in ((weight, optimizer), (again, resumed)):
        step(values, turn, 2)
    assert torch.equal(weight, again)
