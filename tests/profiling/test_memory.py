"""Running out of memory: the arithmetic, and a process that really runs out."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from seaanchor.config.recipes import fare
from seaanchor.config.schema import PerturbationConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.memory import (
    SPARE,
    Footprint,
    available_bytes,
    container_room,
    full,
    is_out_of_memory,
    told_when_full,
)
from seaanchor.profiling.memory_advice import evaluation_advice, training_advice
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import prepare
from seaanchor.training.state import make_state

CPU = torch.device("cpu")


def test_the_largest_batch_is_the_last_that_fits():
    need = Footprint(fixed=1000.0, per_image=10.0)
    for available in (1011.0, 1500.0, 12345.0):
        images = need.largest_batch(available)
        assert need.of(images) <= available < need.of(images + 1)
    assert need.largest_batch(1010.0) == need.largest_batch(0.0) == 0
    assert need.of(10) == 1000 + (1 + SPARE) * 100


def test_the_error_names_a_batch_that_fits():
    need, error = Footprint(fixed=2**30, per_image=2**24), MemoryError("too much")
    caught = full(512, CPU, 3 * 2**30, need, error, lambda fits: f"--batch-size {fits}")
    assert caught.found == "512 images at once do not fit into the memory of cpu: too much"
    assert caught.change == f"--batch-size {int(2 * 2**30 / (1.1 * 2**24))}"
    assert (
        "9.80 GiB" in caught.expected
        and "17.6 MiB of it for each image" in caught.expected
        and "3.00 GiB could be had" in caught.expected
    )
    assert "smaller model" in full(512, CPU, 2**30, need, error, str).change
    assert (
        full(100, CPU, 2**50, need, error, str).change == full(100, CPU, 0, None, error, str).change == "50"
    )  # it failed although it should fit: half


@pytest.mark.parametrize(
    ("error", "yes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
                "allocate 1 bytes"
            ),
            True,
        ),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, yes):
    assert is_out_of_memory(error) == yes


def test_real_allocations_fail_in_ways_that_are_known():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**46)
    assert is_out_of_memory(caught.value)


def test_other_errors_pass_through_untouched():
    for error in (RuntimeError("shapes"), SeaAnchorError("no image: out of memory", "b", "c"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, told_when_full(1, CPU, 0, lambda: Footprint(0, 1), str):
            raise error
        assert caught.value is error


def test_advice_that_fails_does_not_hide_the_error():
    def broken() -> Footprint:
        raise ValueError("no advice")

    with (
        pytest.raises(SeaAnchorError, match="8 images at once") as caught,
        told_when_full(8, CPU, 0, broken, lambda n: f"take {n}"),
    ):
        raise MemoryError("full")
    assert caught.value.change == "take 4"


def test_what_can_be_had_is_no_more_than_the_machine_has():
    assert 0 < available_bytes(CPU) < 2**50


@pytest.mark.parametrize(
    ("files", "cache"),
    [
        (("memory.max", "memory.current"), "inactive_file"),
        (("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ],
)
def test_a_container_has_a_limit_of_its_own(tmp_path, files, cache):
    assert container_room(tmp_path) is None
    for name, value in zip(files, ("1000\n", "700\n"), strict=True):
        (tmp_path / name).write_text(value)
    assert container_room(tmp_path) == 300
    (tmp_path / "memory.stat").write_text(f"anon 600\n{cache} 90\nother 5\n")
    assert container_room(tmp_path) == 390  # files that are only cached give way
    (tmp_path / files[0]).write_text("max\n")
    assert container_room(tmp_path) is None


def test_training_names_settings_and_the_last_checkpoint(tiny_run, tmp_path):
    config = tiny_run(fare(), perturbation=PerturbationConfig(num_steps=1))
    setup = prepare(config, 1, CPU)
    state, folder = make_state(setup), RunFolder(tmp_path / "run")

    def run_out(folder):
        with pytest.raises(SeaAnchorError) as caught, training_advice(setup, state, 1, folder):
            raise MemoryError("full")
        return caught.value

    assert run_out(None).change == "--slice-size 1 fits and makes the same updates"  # the batch of 3 should have fitted
    assert "no checkpoint was due yet" in run_out(folder).change
    saved = folder.save(2, {"step": 2})
    assert f"go on with --resume auto from {saved}" in run_out(folder).change


def test_evaluation_names_a_batch_size(tiny_run):
    encoder = prepare(replace(tiny_run(fare())), 1, CPU).model.encoder
    with pytest.raises(SeaAnchorError, match="100 images at once") as caught, evaluation_advice(encoder, 3, 100, CPU):
        torch.empty(2**46)
    assert "--batch-size 50 fits" in caught.value.change


SQUEEZED = """
import os, resource, sys
from dataclasses import replace
from pathlib import Path
import open_clip, psutil, torch
torch.set_num_threads(1)
from seaanchor.config.schema import PerturbationConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.config.recipes import fare
from seaanchor.api import train_from_config as train

attack = PerturbationConfig(num_steps=1)
config = replace(fare(), train_data="photos-mini/train", max_steps=1, perturbation=attack, device="cpu")
config = replace(config, output=Path(sys.argv[1]), resume="auto")

def squeezed(size):
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        limit = psutil.Process().memory_info().data + 560 * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
        try:
            train(replace(config, batch_size=320, slice_size=size))
            print("trained", size, flush=True)
        except SeaAnchorError as error:
            print(error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)

for argument in sys.argv[2:]:
    squeezed(None if argument == "open" else int(argument))
"""


@pytest.mark.slow
@pytest.mark.exhaustive
def test_what_the_error_names_does_fit(tmp_path):
    """Processes with 560 MB each for a batch of 320 images: one runs out with all of them at once, one goes on with
    less than the first was told, and one is left to choose."""

    few = os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}  # each thread reserves memory of its own

    def run(*batches: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", SQUEEZED, str(tmp_path / "run"), *batches],
            capture_output=True,
            text=True,
            timeout=240,
            env=few,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    said = run("320", "80")
    first, _, second = said.partition("no checkpoint was due yet")
    assert "320 images at once do not fit into the memory of cpu" in first and "can't allocate memory" in first
    assert 64 <= int(re.findall(r"--slice-size (\d+)", first)[0]) <= 200
    assert "trained 80" in second
    assert "trained None" in run("open")
