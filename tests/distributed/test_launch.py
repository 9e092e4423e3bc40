"""How processes start, and what is said where a launcher set only half of what they need."""

import subprocess
import sys

import pytest
import torch

from seaanchor.distributed.launch import device_index, start_training
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
