"""Training on several processes is training on one: the same steps, losses, gradients and weights; and it ends when
one of them does."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import lore
from seaanchor.config.schema import AnchorConfig, PerturbationConfig, RunConfig, to_dict
from seaanchor.errors import SeaAnchorError
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import prepare
from seaanchor.utils.checkpoint import load_state

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
COUNT = 11  # images: steps of 8 and of 3, which four processes cannot share evenly, nor each have one of
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")} | {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Class folders with 11 images, some of which cannot be read in a second copy."""
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("processes"), torch.Generator().manual_seed(0)
    for i in range(COUNT):
        file = folder / "images" / ("apple", "fox", "zebra")[i % 3] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng).numpy()).save(file)
    return folder


@pytest.fixture(scope="module")
def base(place, clip_folder) -> RunConfig:
    """LORE with random starts, two updates a step and multipliers that move: six steps of eight images.

    Steps in l2, which follow a gradient smoothly: a sign turns with the last bit, and kernels add up other batches in
    another order.
    """
    anchor = AnchorConfig("lagrangian", rho=1e-3, dual_lr=0.01, dual_hidden=16)
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
        epochs=3,
        lr=1e-4,
        log_every=1,
        save_every=100,
        device="cpu",
        resume="auto",
    )


def job(do: str, config: RunConfig, **options) -> dict:
    return {"do": do, "config": to_dict(config), "options": options}


def launch(place: Path, name: str, processes: int, jobs: list[dict]) -> subprocess.CompletedProcess:
    file = place / f"{name}.json"
    file.write_text(json.dumps(jobs))
    command = [*LAUNCHER, "--nproc-per-node", str(processes), str(WORKER), str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=ENVIRONMENT)


def outcomes(place: Path, name: str, number: int, processes: int) -> list[str]:
    return [(place / f"{name}-{number}-{rank}.txt").read_text() for rank in range(processes)]


def copied(base: RunConfig, source: str, name: str, **changes) -> RunConfig:
    shutil.copytree(base.output.with_name(source), base.output.with_name(name))
    return replace(base, output=base.output.with_name(name), **changes)


def state_of(folder: Path) -> dict:
    return load_state(RunFolder(folder).checkpoints()[-1])


@pytest.fixture(scope="module")
def one(place, base) -> dict:
    """What one process finds; also a run of its own that is stopped in the middle."""
    worker.gradients(base, str(place / "one.pt"))
    train(base)
    with pytest.raises(SeaAnchorError, match="stopped at step 3 of 6"):
        worker.run(replace(base, output=place / "one-stopped"), stop=3)
    return torch.load(place / "one.pt")


@pytest.fixture(scope="module")
def two(place, base, one) -> subprocess.CompletedProcess:
    """Two processes of a launcher: one of them is killed in the last job."""
    shutil.copytree(place / "images", place / "broken")
    shutil.copytree(place / "images", place / "others")
    (place / "others" / "fox" / "1.png").unlink()
    half = replace(base, batch_size=4)
    setup = prepare(replace(half, train_data=str(place / "broken")), world=2)
    ((batch, _),) = next(worker.load_steps(setup, 0, 1, 2, worker.SkipLog(setup.images)))
    for index in batch.index_B.tolist():  # the second process's part of the first step
        setup.images.paths[index].write_bytes(b"no image")
    jobs = [
        job("gradients", half, target=str(place / "two.pt")),
        job(
            "gradients",
            replace(base, batch_size=2, grad_accumulation=2, slice_size=1),
            target=str(place / "two-by-two.pt"),
        ),
        job("run", replace(half, output=place / "two-stopped"), stop=3),
        job("run", copied(half, "one-stopped", "one-two"), alike=str(place / "alike-two.json")),
        job("run", replace(half, output=place / "unreadable", train_data=str(place / "broken"))),
        job("run", replace(half, output=place / "few", train_samples=1)),
        job("run", replace(half, output=place / "differs")) | {"on_rank": {"1": {"lr": 0.5, "seed": 7}}},
        job("run", replace(half, output=place / "other-data"))
        | {"on_rank": {"1": {"train_data": str(place / "others")}}},
        job("run", replace(half, output=place / "killed"), kill=4) | {"ends": True},
    ]
    return launch(place, "two", 2, jobs)


@pytest.fixture(scope="module")
def four(place, base, two) -> subprocess.CompletedProcess:
    quarter = replace(base, batch_size=2)
    jobs = [
        job("gradients", quarter, target=str(place / "four.pt")),
        job("run", copied(quarter, "two-stopped", "two-four"), alike=str(place / "alike-four.json")),
        job("run", replace(quarter, output=place / "four-stopped"), stop=2),
    ]
    return launch(place, "four", 4, jobs)


def assert_close(found: dict, wanted: dict) -> None:
    """To 1e-4 of the largest number of each kind."""
    assert found.keys() == wanted.keys() and len(wanted) == 6 * 3
    for name, theirs in found.items():
        scale = wanted[name].abs().max()
        assert scale > 0 and theirs.shape == wanted[name].shape
        assert (theirs - wanted[name]).abs().max() <= 1e-4 * scale, name


def test_accumulated_gradients_are_those_of_the_global_batch(place, base, one):
    def parts(batch_size: int, accumulation: int) -> dict:
        worker.gradients(replace(base, batch_size=batch_size, grad_accumulation=accumulation), str(place / "parts.pt"))
        return torch.load(place / "parts.pt")

    for sizes in ((4, 2), (1, 8)):
        assert_close(parts(*sizes), one)
    with pytest.raises(AssertionError):  # the comparison sees other steps
        assert_close(parts(3, 3), one)


@pytest.mark.parametrize("name", ["two", "two-by-two"])
def test_losses_and_gradients_are_those_of_one_process(place, one, two, name):
    """With random starts, and in the last step of three images; `two-by-two` takes micro-batches in slices."""
    assert (place / f"{name}.pt").exists(), two.stderr
    assert_close(torch.load(place / f"{name}.pt"), one)


@pytest.mark.exhaustive
def test_losses_and_gradients_of_four_processes_are_those_of_one(place, one, four):
    assert four.returncode == 0, four.stderr
    assert_close(torch.load(place / "four.pt"), one)


@pytest.mark.parametrize("name", ["two", pytest.param("four", marks=pytest.mark.exhaustive)])
def test_weights_and_multipliers_are_the_same_bits_in_all_processes(place, request, name):
    request.getfixturevalue(name)
    same, count, tensors = json.loads((place / f"alike-{name}.json").read_text())
    assert same and count == {"two": 2, "four": 4}[name] and tensors > 10


def test_a_run_goes_on_with_another_number_of_processes(place, base, two):
    """Two to one, and one to two: each ends near the run that was never stopped."""
    assert "stopped at step 3 of 6" in outcomes(place, "two", 2, 2)[0] == outcomes(place, "two", 2, 2)[1]
    train(copied(base, "two-stopped", "two-one"))
    assert_goes_on(place, base, ("one-two", "two-one"))


@pytest.mark.exhaustive
def test_a_run_goes_on_with_four_processes_and_from_four(place, base, four):
    """Two to four, and four to one with parts."""
    assert "stopped at step 2 of 6" in outcomes(place, "four", 2, 4)[0]
    train(copied(base, "four-stopped", "four-one", batch_size=2, grad_accumulation=4))
    assert_goes_on(place, base, ("two-four", "four-one"))


def assert_goes_on(place: Path, base: RunConfig, names: tuple[str, ...]) -> None:
    """Weights, multipliers and logs of runs in these folders end near those of the run that was never stopped."""
    start, whole = prepare(base), state_of(base.output)
    for name in names:
        state = state_of(place / name)
        assert state["step"] == 6 and (place / name / "export").is_dir()
        for part, before in (("policy", start.policy.state_dict()), ("dual", start.method.anchor.dual.state_dict())):
            moved = sum((whole[part][k] - v).square().sum() for k, v in before.items()).sqrt()
            apart = sum((whole[part][k] - state[part][k]).square().sum() for k in before).sqrt()
            assert moved > 0 and apart / moved < 1e-2, (name, part)
        rows, wanted = RunFolder(place / name).rows(), RunFolder(base.output).rows()
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]  # only the first process writes
        assert [row["images_seen"] for row in rows] == [8, 11, 19, 22, 30, 33]
        for row, other in zip(rows, wanted, strict=True):
            for key in (
                "adversarial_loss",
                "clean_distance",
                "multiplier",
                "multiplier_p90",
                "lr",
            ):  # over all processes' images
                assert row[key] == pytest.approx(other[key], rel=1e-3), (name, row["step"], key)


def test_another_size_of_updates_is_refused_with_what_would_fit(place, base, two):
    before = (place / "two-stopped" / "config.yaml").read_text()
    with pytest.raises(
        SeaAnchorError,
        match=r"sees 8 images, but here 4: 4 at once x 1 process x 1[\s\S]*set --batch-size 8 or --grad-accumulation 2",
    ):
        train(replace(base, output=place / "two-stopped", batch_size=4))
    assert (place / "two-stopped" / "config.yaml").read_text() == before


def test_bad_input_is_one_error_in_every_process(place, two):
    unreadable, few = outcomes(place, "two", 4, 2), outcomes(place, "two", 5, 2)
    assert (
        unreadable[0] == unreadable[1]
        and "1 of 2 processes could read no image of their part of a step" in unreadable[0]
    )
    assert few[0] == few[1] and "1 images" in few[0] and "at least one for each of 2 processes" in few[0]


def test_processes_that_prepared_something_else_stop_with_one_error_that_names_it(place, two):
    """Another rate and seed would train a silently different model, and other data would wait for ever."""
    settings, data = outcomes(place, "two", 6, 2), outcomes(place, "two", 7, 2)
    assert settings[0] == settings[1] and data[0] == data[1]
    assert "lr is 0.0001 on rank 0 and 0.5 on rank 1; seed is 0 on rank 0 and 7 on rank 1" in settings[0]
    assert "the number of images is 11 on rank 0 and 10 on rank 1" in data[0] and "lr" not in data[0]
    assert not any((place / name).exists() for name in ("differs", "other-data"))


def test_a_killed_process_ends_the_run_of_a_launcher(place, two):
    assert two.returncode != 0
    assert "error: process 1 of 2 was lost" in two.stderr and "--resume auto" in two.stderr
    assert [row["step"] for row in RunFolder(place / "killed").rows()] == [1, 2, 3]


@pytest.mark.exhaustive
def test_processes_started_by_hand_end_with_the_one_that_is_lost(place, base):
    """Nothing ends them from outside: one is killed, or raises."""
    half, files = replace(base, batch_size=4), []
    for name in ("kill", "raises"):
        files.append(place / f"hand-{name}.json")
        files[-1].write_text(
            json.dumps([job("run", replace(half, output=place / f"hand-{name}"), **{name: 3}) | {"ends": True}])
        )
    option = job("run", replace(half, output=place / "hand-option"))
    files.append(place / "hand-option.json")
    files[-1].write_text(json.dumps([option | {"ends": True, "on_rank": {"1": {"batch_size": 0}}}]))
    files.append(place / "hand-evaluate.json")
    files[-1].write_text(json.dumps([job("evaluate", base) | {"ends": True}]))
    command, pipe = [sys.executable, str(WORKER), *map(str, files)], subprocess.PIPE
    parent = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, start_new_session=True)
    try:
        output, errors = parent.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(parent.pid, signal.SIGKILL)  # or what hangs would be left behind
        raise
    ends = {
        name: (code, seconds)
        for name, code, seconds in map(
            json.loads, re.findall(r'\["hand-[^\]]*\]', output)
        )  # also behind a child's words
    }
    codes = {
        "hand-kill 0": 2,
        "hand-kill 1": -9,
        "hand-raises 0": 2,
        "hand-raises 1": 1,
        "hand-option 0": 2,
        "hand-option 1": 2,
        "hand-evaluate 0": -9,
        "hand-evaluate 1": 2,
    }
    assert {name: code for name, (code, _) in ends.items()} == codes, errors
    said = {name: (place / f"{name.replace(' ', '-')}.err").read_text() for name in ends}
    assert (
        "error: process 1 of 2 was lost: no sign of life" in said["hand-kill 0"]
        and "process 0 of 2 was lost" in said["hand-evaluate 1"]
    )
    assert "error: process 1 of 2 ended: ValueError: a cosmic ray" in said["hand-raises 0"]
    assert "error: process 1 of 2 ended before it began: batch_size is 0" in said["hand-option 0"]
    assert "error: batch_size is 0" in said["hand-option 1"]
    assert "ValueError: a cosmic ray" in said["hand-raises 1"] and "error: process" not in said["hand-raises 1"]
    for name in ("kill", "raises"):
        assert ends[f"hand-{name} 0"][1] - ends[f"hand-{name} 1"][1] < 30
        assert [row["step"] for row in RunFolder(place / f"hand-{name}").rows()] == [1, 2]


def test_the_numbers_of_the_steps_are_finite(place, two):
    for row in RunFolder(place / "two-stopped").rows():
        assert all(math.isfinite(value) for value in row.values())
