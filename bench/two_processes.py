"""FARE on two processes against one, with gloo and one thread each: `python -m torch.distributed.run -m
bench.two_processes FOLDER` is one of them.

A process runs the step that `train` runs and writes what it saw to FOLDER. Wall seconds, since the processes wait for
each other.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from bench.clock import LARGEST_MOVE, probe
from bench.frame import Measurement, NotMeasured
from bench.subjects import ours, share_of
from seaanchor.config.recipes import fare

BATCH = 16
STEPS = 5
ROUNDS = 2


def worker(folder: Path) -> None:
    """One process: seconds of its steps with a full batch of its own, and its gradients for a share of one batch,
    without an attack, whose signs would turn rounding into other images."""
    torch.set_num_threads(1)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    mine = ours(fare(), BATCH)
    mine.step()
    probes, seconds = [probe(time.perf_counter)], []
    for _ in range(STEPS):
        started = time.perf_counter()
        mine.step()
        seconds.append(time.perf_counter() - started)
    probes.append(probe(time.perf_counter))
    recipe = fare()
    started_only = share_of(
        ours(replace(recipe, perturbation=replace(recipe.perturbation, num_steps=0)), BATCH), rank, world
    )
    started_only.step()
    torch.save([p.grad for p in started_only.setup.policy.parameters()], folder / f"gradients-{rank}.pt")
    (folder / f"seconds-{rank}.json").write_text(json.dumps({"seconds": min(seconds), "probes": probes}))


def launch(world: int, folder: Path) -> list[dict]:
    """Run `world` processes and return what they wrote."""
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={world}",
        "-m",
        "bench.two_processes",
        str(folder),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise RuntimeError(f"{world} processes failed: {done.stderr.strip().splitlines()[-1]}")
    return [json.loads((folder / f"seconds-{rank}.json").read_text()) for rank in range(world)]


def throughput() -> Measurement:
    """Images a second of two processes over those of one, each with a batch of its own."""
    if len(os.sched_getaffinity(0)) < 2:
        raise NotMeasured("needs two cores, this process may use one")
    least, probes = {1: float("inf"), 2: float("inf")}, []
    with tempfile.TemporaryDirectory() as folder:
        for turn, world in enumerate((1, 2, 2, 1) * ROUNDS):
            seen = launch(world, Path(folder) / str(turn))
            least[world] = min(least[world], max(each["seconds"] for each in seen))  # the slower one's step is the step
            probes += [value for each in seen for value in each["probes"]]
    quiet = max(probes) / min(probes) - 1 <= LARGEST_MOVE
    details = {"one_s": least[1], "two_s": least[2], "probes_s": probes}
    return Measurement(
        2 * least[1] / least[2],
        quiet,
        "wall",
        details,
        f"probes {min(probes):.4f} to {max(probes):.4f} s, of all processes",
    )


def gradients() -> Measurement:
    """Largest difference of any weight's gradient, as a share of the largest gradient."""
    with tempfile.TemporaryDirectory() as folder:
        launch(1, Path(folder) / "one")
        launch(2, Path(folder) / "two")
        one, *two = (
            torch.load(Path(folder) / name)
            for name in ("one/gradients-0.pt", "two/gradients-0.pt", "two/gradients-1.pt")
        )
    largest = max(gradient.abs().max().item() for gradient in one)
    apart = max((a - b).abs().max().item() for each in two for a, b in zip(one, each, strict=True))
    return Measurement(
        apart / largest,
        details={"largest_gradient": largest},
        note="as a share of the largest gradient; FARE from the random start alone",
    )


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
