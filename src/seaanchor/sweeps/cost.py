"""`seaanchor sweep --dry-run`: what the runs of a sweep would cost; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seaanchor.config.schema import RunConfig, to_dict
from seaanchor.profiling.dry_run import Rehearsal, dry_run
from seaanchor.sweeps.arms import Arm, is_done
from seaanchor.training.progress import duration
from seaanchor.utils.json_text import to_json
from seaanchor.utils.log import log

SAME_COST = (
    *("seed", "output", "resume", "lr", "wd", "warmup", "log_every"),
    *("objective.beta", "objective.label_smoothing", "anchor.rho", "anchor.weight", "anchor.dual_lr"),
    *("anchor.initial_multiplier", "perturbation.epsilon", "perturbation.step_size"),
)
"""Settings that are numbers in a formula: two points that differ only here take as long as each other."""


@dataclass(frozen=True)
class PointCost:
    """A point of the sweep.

    Attributes:
        name: of the point.
        runs: that are still to be trained, one for each seed.
        done: runs that are there.
        steps: of one run.
        flops: of one run.
        seconds: of one run, evaluations not included.
    """

    name: str
    runs: int
    done: int
    steps: int
    flops: float
    seconds: float


def sweep_cost(arms: Sequence[Arm], seeds: Sequence[int], output: Path) -> list[PointCost]:
    """Take one real batch through a step of every point that may cost something else than another one, and print what
    all of them take.

    Args:
        arms: the points.
        seeds: of every point.
        output: the sweep's folder, where finished runs count as done; nothing is written.

    Raises:
        SeaAnchorError: as `dry_run`, or a run in the folder has other settings.
    """
    seen: dict[str, Rehearsal] = {}
    costs = []
    for arm in arms:
        configs = [replace(arm.config, seed=seed, output=output / f"seed-{seed}" / arm.name) for seed in seeds]
        done = sum(is_done(replace(config, resume="auto")) for config in configs)
        key = _decisive(arm.config)
        if key not in seen:
            log.info(f"one step of {arm.name}")
            seen[key] = dry_run(replace(configs[0], resume="auto"), say=False)
        found = seen[key]
        per_step = found.passes * found.forward_flops * arm.config.batch_size
        flops = per_step * found.total_steps
        costs.append(PointCost(arm.name, len(seeds) - done, done, found.total_steps, flops, found.total_seconds))
    log.info("\n".join(lines(costs, len(seeds), len(seen))))
    return costs


def lines(costs: Sequence[PointCost], seeds: int, rehearsed: int) -> list[str]:
    """The costs in plain text.

    Args:
        costs: of every point.
        seeds: of a point.
        rehearsed: points whose step was taken.
    """
    width = max(len("point"), *(len(cost.name) for cost in costs))
    rows = [f"{'point':<{width}}  {'runs':>4}  {'steps':>9}  {'TFLOP a run':>11}  {'time a run':>10}"]
    for cost in costs:
        runs = f"{cost.runs}" if not cost.done else f"{cost.runs} ({cost.done} done)"
        row = f"{cost.name:<{width}}  {runs:>4}  {cost.steps:>9,}  {cost.flops / 1e12:>11,.4g}"
        rows.append(f"{row}  {duration(cost.seconds):>10}")
    total, steps = sum(cost.runs for cost in costs), sum(cost.runs * cost.steps for cost in costs)
    flops, seconds = (sum(cost.runs * getattr(cost, name) for cost in costs) for name in ("flops", "seconds"))
    many = f"{len(costs)} points x {seeds} seed{'s' if seeds > 1 else ''}: {total} runs to train, {steps:,} steps"
    return [
        *rows,
        f"{many}, {flops / 1e12:,.4g} TFLOP, about {duration(seconds)} one after another",
        f"evaluations are not included; one step each of {rehearsed} point{'s' if rehearsed > 1 else ''} was measured, "
        "the others cost the same",
        "nothing was written",
    ]


def _decisive(config: RunConfig) -> str:
    """What decides the cost, as text."""
    data: dict[str, Any] = to_dict(config)
    for name in SAME_COST:
        *sections, last = name.split(".")
        inside = data
        for section in sections:
            inside = inside[section]
        inside.pop(last, None)
    return to_json(data, sort_keys=True, default=str)
