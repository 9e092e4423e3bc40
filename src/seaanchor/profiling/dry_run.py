"""`seaanchor train RECIPE --dry-run`: one real batch, nothing written; what training would cost."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.data.loader import SkipLog
from seaanchor.data.types import texts_of
from seaanchor.distributed.launch import start_training
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.distributed.watch import watched_group
from seaanchor.errors import SeaAnchorError
from seaanchor.profiling.fitting import fitted
from seaanchor.profiling.flops import count_stages, forward_flops, least_passes, prefix_flops
from seaanchor.profiling.memory_advice import training_advice
from seaanchor.profiling.op_counter import Stage
from seaanchor.profiling.step_parts import table
from seaanchor.training.batches import MicroBatch, caches_reference, load_batches, make_targets, to_device
from seaanchor.training.loggers import StepRecord, tracker_package
from seaanchor.training.precision import told_runnable
from seaanchor.training.progress import duration
from seaanchor.training.resume import check_output
from seaanchor.training.setup import Setup, batch_split, prepare
from seaanchor.training.state import TrainState, make_state
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Targets
from seaanchor.utils.log import log

T = TypeVar("T")


@dataclass(frozen=True)
class Rehearsal:
    """What one batch showed.

    Attributes:
        images: in the data set.
        total_steps: of the whole run.
        parameters: how many numbers are trained, the dual's included.
        forward_flops: F, one image once through the tower.
        passes: what a step costs by count, per image, in units of F.
        stages: operations of a step per image, by stage.
        least_passes: the same by formula.
        batch_seconds: of loading and one step.
        total_seconds: of the whole run, evaluations not included.
        peak_bytes: of device memory; on a CPU, of the process.
    """

    images: int
    total_steps: int
    parameters: int
    forward_flops: int
    passes: float
    stages: Mapping[Stage, int]
    least_passes: float | None
    batch_seconds: float
    total_seconds: float
    peak_bytes: int


def dry_run(config: RunConfig, *, say: bool = True) -> Rehearsal:
    """Load everything, take one batch through attack, primal and dual steps, and print what it showed.

    Args:
        config: of the run.
        say: whether it is printed.

    Raises:
        SeaAnchorError: whatever `train` would raise before its first batch; no readable image; a loss that is not
            finite; too little memory.
    """
    check(config)
    device = start_training(config.device)
    with watched_group() as group:
        return _dry_run(config, group, device, say)


def _dry_run(config: RunConfig, group: ProcessGroup, device: torch.device, say: bool) -> Rehearsal:
    if group.first:
        check_output(config)
        tracker_package(config.report_to)
    setup = prepare(config, group.world, device)
    setup = replace(setup, config=told_runnable(setup.config, device, group.first))
    state = make_state(setup, group)
    setup = replace(setup, config=fitted(setup, state, group))
    if group.first and say:
        images = batch_split(setup.config, len(setup.images.paths), group.world).largest_batch
        log.info(f"one step of {setup.model.name} at {images} images is counted and timed")
    with training_advice(setup, state, group.world):
        seen = rehearse(setup, state, group)
    if group.first and say:
        log.info("\n".join(lines(setup, seen, str(device), group.world)))
    return seen


def rehearse(setup: Setup, state: TrainState, group: ProcessGroup) -> Rehearsal:
    """Take one image of the first readable batch through a step while operations are counted, then the whole batch for
    time and memory."""
    config, device = setup.config, setup.device
    batch, load_seconds = _first_batch(setup, group)
    cached = caches_reference(setup, group.world)

    def step(batch: Batch, targets: Targets) -> StepRecord:
        targets = targets if cached else make_targets(setup, batch, None)
        return train_step(setup.method, state, [MicroBatch(batch, targets)], config, 0, setup.reference, group)

    one = _first_row(batch)
    targets = make_targets(setup, one, None)
    stages, _ = count_stages(lambda: step(one, targets))
    tower = (
        setup.model.encoder if setup.table is not None else setup.reference
    )  # a copy from before low-rank updates went in
    forward = forward_flops(tower, setup.model.encoder.image_size, setup.model.encoder.mean.device)
    prefix = prefix_flops(setup.model.encoder, state.prefix) / forward
    embed_seconds, targets = _timed(lambda: make_targets(setup, batch, None), device)
    if device.type != "cpu" or state.compiled is not None:
        step(batch, targets)  # kernels are chosen, and towers compiled, the first time they meet a shape
    step_seconds, record = _timed(lambda: step(batch, targets), device)
    if not bool(record.objective_B.isfinite().all()):
        raise SeaAnchorError(
            "the loss of the first batch is not finite", "finite numbers", "lower --lr, or check the weights"
        )
    load_seconds /= max(1, config.workers)
    batch_seconds = step_seconds + load_seconds if config.workers == 0 else max(step_seconds, load_seconds)
    beforehand = cached * len(setup.images.paths) / len(batch.index_B) * (load_seconds + embed_seconds)
    trained = [*state.policy.parameters(), *(state.dual.parameters() if state.dual is not None else [])]
    return Rehearsal(
        images=len(setup.images.paths),
        total_steps=setup.total_steps,
        parameters=sum(p.numel() for p in trained if p.requires_grad),
        forward_flops=forward,
        passes=sum(stages.values()) / forward,
        stages=stages,
        least_passes=least_passes(config, setup.method.needs, cached, prefix),
        batch_seconds=batch_seconds,
        total_seconds=setup.total_steps * batch_seconds + beforehand,
        peak_bytes=_peak_bytes(device),
    )


def lines(setup: Setup, seen: Rehearsal, device: str, world: int) -> list[str]:
    """The rehearsal in plain text."""
    config, images = setup.config, batch_split(setup.config, seen.images, world).largest_batch
    texts = texts_of(setup.images)
    classes = f" of {len(texts)} classes" if texts else ""
    attack = (
        ""
        if config.perturbation.kind == "none"
        else f" (ε = {config.perturbation.epsilon}, {config.perturbation.num_steps} steps)"
    )
    least = seen.least_passes
    formula = "no formula for this attack" if least is None else f"{round(least, 1):g} F by formula"
    parts = table(seen.stages, seen.forward_flops, setup.method.needs.clean)
    return [
        f"model        {setup.model.name}: {setup.model.encoder.image_size} px, D = "
        f"{setup.model.encoder.dim}, on {world} x {device}",
        f"method       {config.objective.kind} + {config.anchor.kind} + {config.perturbation.kind}{attack} + "
        f"{config.adapter.kind}",
        f"data         {config.train_data}: {seen.images:,} images{classes}",
        f"run          {seen.total_steps:,} steps of {images} x {world}, {config.primal_steps} updates each",
        f"trained      {seen.parameters:,} parameters",
        f"cost         {seen.passes:.1f} F an image counted, {formula} (F = {seen.forward_flops / 1e9:.3g} GFLOP)",
        *(f"{'' if number else 'of which':13}{row}" for number, row in enumerate(parts)),
        f"time         {seen.batch_seconds:.3g} s a step, about {duration(seen.total_seconds)} in all, "
        "evaluations not included",
        f"peak memory  {seen.peak_bytes / 2**30:.2f} GiB",
        "nothing was written",
    ]


def _first_batch(setup: Setup, group: ProcessGroup) -> tuple[Batch, float]:
    """The first batch with a readable image, and the seconds that loading one takes a single process."""
    single = replace(setup, config=replace(setup.config, workers=0))
    started = time.monotonic()
    stream = load_batches(single, 0, group.rank, group.world, SkipLog(setup.images))
    for tried, batch in enumerate(stream, 1):
        if len(batch.index_B) > 0:
            return to_device(batch, setup.device), (time.monotonic() - started) / tried
    raise SeaAnchorError(f"no image in {setup.config.train_data} could be read", "readable images", "check the folder")


def _first_row(record: Any) -> Any:
    """A record of tensors (B, ...) cut down to its first row."""
    if isinstance(record, Tensor):
        return record[:1]
    if not is_dataclass(record) or isinstance(record, type):
        return record
    return replace(record, **{f.name: _first_row(getattr(record, f.name)) for f in fields(record)})


def _timed(run: Callable[[], T], device: torch.device) -> tuple[float, T]:
    started = time.monotonic()
    result = run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.monotonic() - started, result


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
