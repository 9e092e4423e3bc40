"""What a training step costs: FLOPs counted against the formulas, LORE against FARE, dual network against scalar multiplier.

`make bench`. Times are ratios of minima over interleaved pairs (A B B A) on one thread, with a matrix product before and after as a probe of
how quiet the machine was; where the probe moves by more than 10 %, times are marked as noisy.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from seaanchor.config import RunConfig
from seaanchor.flops import count_flops, forward_flops
from seaanchor.prepare import make_targets, prepare, start_accelerator
from seaanchor.recipes import fare, lore
from seaanchor.step import train_step
from seaanchor.train import make_moving

PAIRS = 5
BATCH = 16


def step_of(recipe: RunConfig, batch: int) -> tuple[Callable[[], object], int]:
    """A step on `batch` embedded photos, ready to be called again and again, and F of its tower; reference embeddings are cached."""
    from seaanchor.data.folder import SkipLog
    from seaanchor.prepare import batch_stream

    config = replace(recipe, batch_size=batch, train_data="photos-mini/train", device="cpu", lr=0.0)
    accelerator = start_accelerator("cpu")
    setup = prepare(config)
    moving = make_moving(setup, accelerator, None)
    images = next(batch_stream(setup, 0, 0, 1, SkipLog(setup.images)))
    targets = make_targets(setup, images, None)
    forward = forward_flops(setup.reference, setup.model.encoder.image_size)
    return lambda: train_step(setup.method, moving, accelerator, images, targets, config, 0, setup.reference), forward


def ratio(first: Callable[[], object], second: Callable[[], object]) -> tuple[float, bool]:
    """Ratio of the minima of A and B, and whether the machine was quiet."""
    first(), second()
    times: tuple[list[float], list[float]] = ([], [])
    before = probe()
    for _ in range(PAIRS):
        for which, run in ((0, first), (1, second), (1, second), (0, first)):
            started = time.perf_counter()
            run()
            times[which].append(time.perf_counter() - started)
    after = probe()
    return min(times[0]) / min(times[1]), abs(after / before - 1) <= 0.1


def probe() -> float:
    """Seconds of a matrix product, the least of five."""
    a = torch.randn(1024, 1024)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread")
    ten, k5 = fare(), lore()
    scalar = replace(k5, anchor=replace(k5.anchor, dual="scalar"))
    for name, recipe, formula in (("FARE", ten, 23), ("LORE, K = 5", k5, 50)):
        step, forward = step_of(recipe, 1)
        passes = count_flops(step)[0] / forward
        print(f"{name}: {passes:.2f} F an image, formula {formula} F, ratio {passes / formula:.3f} (bar 1.03)")
    for name, one, other, bar in (("LORE / FARE", k5, ten, 2.35), ("dual network / scalar multiplier", k5, scalar, 1.015)):
        value, quiet = ratio(step_of(one, BATCH)[0], step_of(other, BATCH)[0])
        print(f"{name}: {value:.3f} (bar {bar}){'' if quiet else '  noisy machine'}")


if __name__ == "__main__":
    main()
