"""How processes start, and what is said where a launcher set only half of what they need."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from seaanchor.distributed.launch import device_index, end_others, start_training
from seaanchor.errors import SeaAnchorError


def test_one_process_needs_no_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert start_training("cpu") == torch.device("cpu") and not torch.distributed.is_initialized()
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "LOCAL_RANK", "RANK"])
def test_processes_that_are_announced_by_halves(monkeypatch, missing):
    """Nothing may train alone beside others that do the same."""
    values = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(SeaAnchorError, match=missing):
        start_training("cpu")


@pytest.mark.parametrize("world", ["²", "two", "", " 1 ", "-1"])
def test_a_number_of_processes_that_is_none_tells_nobody(monkeypatch, world):
    """The error that brought us here is the one to be seen."""
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.setenv("RANK", "0")
    end_others(ValueError("another"))


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(SeaAnchorError, match=r"--device tpu, but training here runs on"):
        start_training("tpu")


def test_each_process_takes_the_device_of_its_number():
    assert [device_index(str(rank), 4) for rank in range(4)] == [0, 1, 2, 3]
    assert [device_index(str(rank), 1) for rank in range(4)] == [0] * 4  # a scheduler shows each process its own one
    with pytest.raises(SeaAnchorError, match="LOCAL_RANK is 4, but this machine shows 4 devices"):
        device_index("4", 4)


def test_training_does_not_import_accelerate():
    code = "import sys, seaanchor.training.loop, seaanchor.profiling.dry_run; sys.exit('accelerate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


EVALUATE = 'evaluate("seaanchor-tiny", "photos-mini/test", suites=["driftt"] if wrong else [], samples=10)'
TRAIN = 'train_from_config(seaanchor.RunConfig(output="run", precision="fp8" if wrong else "fp32", device="cpu"))'
SCRIPT = """
import os, sys, seaanchor
wrong = os.environ["RANK"] == sys.argv[1]
try:
    seaanchor.CALL
except seaanchor.SeaAnchorError as error:
    sys.exit(f"error: {error}")
"""


def ends_of_two(commands):
    """Exit codes and errors of two processes that a launcher would have started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    children = [
        subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    try:
        errors = [child.communicate(timeout=100)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    return [child.returncode for child in children], errors


@pytest.mark.exhaustive
@pytest.mark.parametrize("wrong", [0, 1])
def test_a_mistake_on_the_command_line_of_one_process_ends_the_other(tmp_path, wrong):
    """The first process hosts what the other one reads."""
    command = ["-m", "seaanchor.cli", "train", "fare-tiny", "--output", str(tmp_path / "run"), "--lr"]
    codes, errors = ends_of_two([[*command, "fast" if rank == wrong else "0.001"] for rank in range(2)])
    assert codes == [2, 2]
    assert f"process {wrong} of 2 ended before it began" in errors[1 - wrong] and "fast" in errors[1 - wrong]
    assert "ended before" not in errors[wrong] and not (tmp_path / "run").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("wrong", [0, 1])
@pytest.mark.parametrize(("call", "named"), [(EVALUATE, "driftt"), (TRAIN, "fp8")], ids=["evaluate", "train"])
def test_a_mistake_in_python_of_one_process_ends_the_other(tmp_path, monkeypatch, wrong, call, named):
    monkeypatch.chdir(tmp_path)
    codes, errors = ends_of_two([["-c", SCRIPT.replace("CALL", call), str(wrong)]] * 2)
    assert codes == [1, 1]
    assert f"process {wrong} of 2 ended before it began" in errors[1 - wrong] and named in errors[1 - wrong]
    assert "ended before" not in errors[wrong]
