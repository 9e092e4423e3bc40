"""How far predicted times of steps are from a clock's, on this machine.

A step is predicted from its kernels, each of which runs a few times on made-up numbers (`seaanchor.profiling.replay`).
Beside it stands what two rates alone would say, as for GPUs that are elsewhere: a matrix product of a tower's size, and
a sum of two large tensors for the memory.
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
from seaanchor.profiling.cost_model import step_calls, step_work
from seaanchor.profiling.hardware import Machine
from seaanchor.profiling.replay import replayed

RECIPES: dict[str, Callable[[], RunConfig]] = {"FARE": fare, "LORE": lore, "DPO": dpo}
CPU = torch.device("cpu")


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


def short(recipe: RunConfig) -> RunConfig:
    """Two steps of the attack and at most two updates: more of them are more of the same."""
    attack = replace(recipe.perturbation, num_steps=min(2, recipe.perturbation.num_steps))
    return replace(recipe, perturbation=attack, primal_steps=min(2, recipe.primal_steps))


def prediction(
    model: str | None,
    batch: int,
    *,
    size: int | None = None,
    recipes: tuple[str, ...] = ("FARE", "LORE", "DPO"),
    rows: int = 512,
    width: int = 768,
) -> Measurement:
    """Predicted and measured seconds of steps; the value is the factor by which the worst is off."""
    torch.set_num_threads(1)
    before, details = probe(), {}
    for name in recipes:
        recipe = replace(short(RECIPES[name]()), batch_size=batch)
        subject = ours(recipe, batch, model=model or small_vit(), image_size=size)
        setup = subject.setup
        classes = len(setup.head.weight_CD) if setup.head is not None else 1
        step = setup.config, setup.model.encoder, setup.method, classes, True
        predicted = sum(replayed(step_calls(*step), CPU, time.process_time).values())
        subject.step()  # optimizer state
        measured, machine = seconds(subject.step, 2), this_machine(rows, width)
        two_rates = step_work(*step).seconds(machine) / measured
        rates = {"gflops": machine.fp32 / 1e9, "gbytes": machine.bandwidth / 1e9, "two_rates": two_rates}
        details[name] = {"predicted": predicted, "measured": measured, "ratio": predicted / measured, **rates}
    worst = max(max(row["ratio"], 1 / row["ratio"]) for row in details.values())
    note = ", ".join(
        f"{name} {row['predicted']:.3g} s predicted, {row['measured']:.3g} s measured: {row['ratio']:.2f} "
        f"(two rates: {row['two_rates']:.2f})"
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


def _tower(name: str, model: str, batch: int, size: int | None = None) -> Bar:
    """A bar of one more tower: FARE alone, whose step has all kinds of passes."""
    subject = f"{model.removeprefix('timm:')}{f' at {size} px' if size else ''}, batch {batch}"
    return _bar(name, subject, lambda: prediction(model, batch, size=size, recipes=("FARE",)), 1.25, 1.5)


BARS = [
    _bar(
        "embedded",
        "the embedded model, batch 16",
        lambda: prediction("seaanchor-tiny", 16, rows=1024, width=256),
        1.25,
        1.5,
    ),
    _bar("small-vit", "a ViT of 64 px, batch 16", lambda: prediction(None, 16, rows=1040, width=192), 1.2, 1.5),
    _bar(
        "vit-b-32", "ViT-B/32, batch 4", lambda: prediction("ViT-B-32", 4, recipes=("FARE", "LORE"), rows=200), 1.2, 1.5
    ),
    _tower("vit-s-16", "timm:vit_small_patch16_224", 2),
    _tower("rn50", "RN50", 4, 128),
    _tower("convnext", "timm:convnext_tiny", 2, 128),
    _tower("efficientnet", "timm:tf_efficientnet_lite0", 8, 128),
    _tower("swin", "timm:swin_tiny_patch4_window7_224", 1),
]
