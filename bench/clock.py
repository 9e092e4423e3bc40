"""How times are taken: one thread, interleaved A B B A, minima, and a probe of how quiet the machine was.

Processor seconds of this process are the rule: other programs take turns on a core, and wall time counts their turns.
They still share caches and memory with us, which is what the probe sees.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

PAIRS = 5
QUICK = "BENCH_QUICK"  # in the environment: one round, and nothing is kept
LARGEST_MOVE = 0.1  # of the probe between before and after

Clock = Callable[[], float]


@dataclass(frozen=True)
class Times:
    """Least seconds of A and of B over interleaved runs, and whether the machine was quiet meanwhile."""

    first: float
    second: float
    quiet: bool


def probe(clock: Clock = time.process_time) -> float:
    """Seconds of a matrix product, the least of ten."""
    a = torch.randn(1024, 1024)
    seconds = []
    for _ in range(10):
        started = clock()
        a @ a
        seconds.append(clock() - started)
    return min(seconds)


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    *,
    pairs: int | None = None,
    clock: Clock = time.process_time,
    warm: bool = True,
    own_clocks: bool = False,
    quiet_probe: Callable[[Clock], float] = probe,
) -> Times:
    """Time A against B: once each to warm up, then rounds of A B B A, on one thread.

    Args:
        first, second: A and B; each call must do the same work.
        pairs: rounds, so that each is timed twice as often; 5, or 1 for a quick look (`QUICK`).
        clock: `time.process_time`, or `time.perf_counter` where more than this process works.
        warm: whether a first, untimed call of each is worth it.
        own_clocks: whether A and B return the seconds that they took, because they work in processes of their own.
        quiet_probe: seconds of fixed work, taken before and after.
    """
    torch.set_num_threads(1)
    if warm:
        first(), second()
    seconds: tuple[list[float], list[float]] = ([], [])
    before = quiet_probe(clock)
    for _ in range(pairs or (1 if QUICK in os.environ else PAIRS)):
        for which, run in ((0, first), (1, second), (1, second), (0, first)):
            started = clock()
            told = run()
            seconds[which].append(float(told) if own_clocks else clock() - started)  # type: ignore[arg-type] # seconds
    return Times(min(seconds[0]), min(seconds[1]), abs(quiet_probe(clock) / before - 1) <= LARGEST_MOVE)
