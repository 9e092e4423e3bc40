"""Tests that start several processes are slow; how they start them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

STARTED = {"two", "four", "launched"}
"""Fixtures that start so many processes, which takes longer than any test that looks at what they did."""
WORKER = Path(__file__).with_name("distributed_worker.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if item.path.parent == Path(__file__).parent and STARTED & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def launched() -> Callable[..., subprocess.CompletedProcess]:
    """Two processes of torch's launcher that do the jobs of `distributed_worker`: (file to write them to, jobs) →
    what became of the launcher."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--rdzv-backend", "c10d"]
    start += ["--rdzv-endpoint", "127.0.0.1:0", "--nproc-per-node", "2", str(WORKER)]
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def launch(file: Path, jobs: list[dict]) -> subprocess.CompletedProcess:
        file.write_text(json.dumps(jobs))
        return subprocess.run([*start, str(file)], capture_output=True, text=True, timeout=100, env=environment)

    return launch
