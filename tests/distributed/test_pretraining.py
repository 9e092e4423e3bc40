"""Pre-training on two processes: one model, whose gradient is the mean of those of both shares."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seaanchor.distributed.process_group import ONE_PROCESS
from tools.pretraining import distillation
from tools.pretraining.lite_corpus import make_lite_batch

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("pretraining_worker.py")
_spec = spec_from_file_location("pretraining_worker", WORKER)
worker = module_from_spec(_spec)
_spec.loader.exec_module(worker)


def gradients(corpus, number: int) -> dict[str, torch.Tensor]:
    """Of the student before training, on one share of the first step's batch, uncut."""
    student, tower = worker.untrained(corpus)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.0)
    state = distillation._State(student, student, optimizer)
    batch = make_lite_batch(corpus, 0, number, 4, worker.MIX, 32, 48)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args: None)
        distillation._step(worker.config_of(Path()), corpus, state, tower, batch, 0, ONE_PROCESS)
    return {name: p.grad for name, p in student.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_processes_hold_one_model_and_average_their_gradients(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("Faces", "anchor"):
        for i in range(9):
            file = tmp_path / "photos" / name / f"image_{i:04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (60, 50, 3), dtype=np.uint8)).resize((200, 180)).save(file)
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(WORKER), str(tmp_path / "photos"), str(tmp_path)],
        capture_output=True, text=True, timeout=200, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (first, found), (second, _) = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    corpus = worker.corpus_of(tmp_path / "photos", tmp_path / "cache-0")
    shares = [gradients(corpus, number) for number in (0, 1)]
    mean = {name: (shares[0][name] + shares[1][name]) / 2 for name in shares[0]}
    for name, grad in mean.items():
        assert (found[name] - grad).norm() <= 1e-3 * grad.norm() + 1e-6, name
