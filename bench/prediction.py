"""How far the cost model's time is from a clock's: steps predicted from this machine's own rates, beside the same steps
measured.

The rates are probed: a matrix product of a tower's size in fp32 and in bf16, and a sum of two large tensors for the
memory. The model has no other
number in it, so what it misses is here for all to see: kernels that reach less than a matrix product, or more than the
memory's rate within a cache.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from bench.clock import LARGEST_MOVE, probe
from bench.frame import Bar, Measurement
from bench.subjects import ours, small_vit
from seaanchor.config.recipes import dpo, fare, lore
from seaanchor.config.schema import RunConfig
from seaanchor.profiling.cost_model import step_cost
from seaanchor.profiling.hardware import Machine

RECIPES: dict[str, Callable[[], RunConfig]] = {"FARE": fare, "LORE": lore, "DPO": dpo}


def seconds(run: Callable[[], object], times: int) -> float:
    """Least processor seconds of some runs."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        run()
        taken.append(time.process_time() - started)
    return min(taken)


def this_machine(rows: int = 512, width: int = 768) -> Machine:
    """One thread's rates: products (rows, width) x (width, 4·width), and sums of 64 MB."""
    rate = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(rows, width, dtype=dtype), torch.randn(width, 4 * width, dtype=dtype)
        rate[name] = 2 * rows * width * 4 * width / seconds(lambda a=a, b=b: a @ b, 10)
    c, d, e = (torch.ones(2**24) for _ in range(3))
    bandwidth = 3 * c.nbytes / seconds(lambda: torch.add(c, d, out=e), 5)
    return Machine("this machine", rate["fp32"], rate["bf16"], bandwidth, 0.0, "probed")


def prediction(model: str | None, batch: int, times: int, rows: int, width: int) -> Measurement:
    """Predicted and measured seconds of steps; the value is the factor by which the worst is off."""
    torch.set_num_threads(1)
    before, details = probe(), {}
    for name, recipe in RECIPES.items():
        subject = ours(replace(recipe(), batch_size=batch), batch, model=model or small_vit())
        setup = subject.setup
        classes = len(setup.head.weight_CD) if setup.head is not None else 1
        cost = step_cost(setup.config, setup.model.encoder, setup.method, classes, cached=True)
        subject.step()  # optimizer state
        measured = seconds(subject.step, times)
        machine = this_machine(rows, width)
        predicted = cost.step.seconds(machine)
        rates = {"gflops": machine.fp32 / 1e9, "gbytes": machine.bandwidth / 1e9}
        details[name] = {"predicted": predicted, "measured": measured, "ratio": predicted / measured, **rates}
    worst = max(max(row["ratio"], 1 / row["ratio"]) for row in details.values())
    note = ", ".join(
        f"{name} {row['predicted']:.3g} s predicted, {row['measured']:.3g} s measured: {row['ratio']:.2f}"
        for name, row in details.items()
    )
    return Measurement(worst, abs(probe() / before - 1) <= LARGEST_MOVE, "processor", details, note)


def _bar(name: str, subject: str, measure: Callable[[], Measurement], aim: float, at_most: float) -> Bar:
    return Bar(
        f"prediction-{name}",
        f"steps of {subject}: predicted time off by a factor of",
        measure,
        aim=aim,
        at_most=at_most,
    )


BARS = [
    _bar("embedded", "the embedded model, batch 16", lambda: prediction("seaanchor-tiny", 16, 3, 1024, 256), 1.5, 2.0),
    _bar("small-vit", "a ViT of 64 px, batch 16", lambda: prediction(None, 16, 3, 1040, 192), 1.2, 1.5),
    _bar("vit-b-32", "ViT-B/32, batch 4", lambda: prediction("ViT-B-32", 4, 1, 200, 768), 1.2, 1.5),
]
