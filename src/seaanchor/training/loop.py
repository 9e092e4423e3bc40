"""The training loop: every step, its log, its evaluations and its checkpoints.

A run is prepared by `setup`, a step's images come from `batches`, a single step is `step`, and what it changes is
`state`. Legend: B batch, N images of the data set, D embedding dimension.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from seaanchor.config.schema import RunConfig
from seaanchor.data.loader import SkipLog
from seaanchor.distributed.process_group import ProcessGroup, gathered
from seaanchor.distributed.sharding import is_sharded, shard
from seaanchor.encoders.encoder import LoadedModel, Reference
from seaanchor.errors import SeaAnchorError
from seaanchor.training.batches import (
    MicroBatch,
    embed_in_slices,
    let_reference_go,
    load_steps,
    make_micro_batch,
    reference_cache,
)
from seaanchor.training.divergence import START, LossWatch
from seaanchor.training.finish import full_model
from seaanchor.training.loggers import Report, StepRecord, measure
from seaanchor.training.progress import Clock, Progress
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.schedule import set_learning_rate
from seaanchor.training.setup import Setup
from seaanchor.training.state import TrainState, save_checkpoint, stop_if_not_finite
from seaanchor.training.step import train_step
from seaanchor.types import Batch
from seaanchor.utils.log import log
from seaanchor.utils.stages import tick

Evaluate = Callable[[LoadedModel, RunConfig], dict[str, Any]]


@dataclass(frozen=True)
class LoopContext:
    """What the functions of the loop read.

    Attributes:
        setup: what does not change.
        state: what every step changes.
        evaluate: accuracies of the model as it is trained now.
        group: the processes of the run.
        folder: of the run.
        report: takes log rows to the trackers.
        progress: shows them to the user.
        skip_log: images that could not be read.
        interrupted: one value, true once the user asked to stop.
        watch: warns when the loss leaves its range.
        seen: images of the steps before; None where that is not known.
    """

    setup: Setup
    state: TrainState
    evaluate: Evaluate
    group: ProcessGroup
    folder: RunFolder
    report: Report
    progress: Progress
    skip_log: SkipLog
    interrupted: list[bool]
    watch: LossWatch
    seen: int | None = 0


def training_loop(run: LoopContext, step: int) -> int:
    """Take all steps from `step` on; returns the number of steps taken in all when it ends or is interrupted."""
    setup, state, group, config, total = run.setup, run.state, run.group, run.setup.config, run.setup.total_steps
    cache_ND = reference_cache(setup, group.world)
    if is_sharded(setup.policy):  # only now: until here processes call the reference as often as each needs it
        shard(cast(Reference, setup.reference).encoder, setup.device)
    elif cache_ND is not None:
        let_reference_go(setup)
    stream = load_steps(setup, step, group.rank, group.world, run.skip_log)
    if step == 0 and config.eval_every:
        _evaluate(run, step)  # where training starts from, and whatever is wrong with val_data
    stop, saved, clock = False, step, Clock(run.seen)
    tick("batches", step)
    while step < total and not stop:
        with clock.waiting():
            loaded = next(stream)
        readable = [(batch, is_padding) for batch, is_padding in loaded if len(batch.index_B)]
        num_images, asked_to_stop = _agree(run, readable, len(loaded))
        if asked_to_stop:
            break
        step += 1
        tick("batches")
        if num_images == 0:
            continue
        micro_batches = [make_micro_batch(setup, batch, is_padding, cache_ND) for batch, is_padding in readable]
        lr = set_learning_rate(state.optimizer, config, step - 1, total)
        record = train_step(setup.method, state, micro_batches, config, step - 1, setup.reference, group, num_images)
        clock.count(int(num_images))
        stop = group.world == 1 and run.interrupted[0]
        log_now = step % config.log_every == 0 or step == total
        save_now = step % config.save_every == 0 or step == total or stop
        if log_now or save_now:
            embeddings = _embed_in_eval_mode(setup.policy, micro_batches, config)
            stop_if_not_finite([record.objective_B, embeddings[0]], step, run.folder, group)
        elif setup.device.type == "cpu":  # elsewhere a look would make the device wait
            stop_if_not_finite([record.objective_B], step, run.folder, group)
        if run.watch.first is None and not log_now and len(record.objective_B):
            _log_start(run, step, record)
        if log_now:
            _log(run, step, lr, record, embeddings, clock)
        with clock.paused():
            if config.eval_every and step % config.eval_every == 0:
                _evaluate(run, step)
            if save_now:
                save_checkpoint(setup, state, group, run.folder, step, clock.total)
                saved = step
    _finish(run, step, saved, clock)
    return step


def _agree(run: LoopContext, readable: Sequence[tuple[Batch, bool]], expected: int) -> tuple[float, bool]:
    """Images of a step in all processes, padding and unreadable ones not counted, and whether one of several processes
    is asked to stop: the others learn it here.

    Args:
        run: of this process.
        readable: its micro-batches with images, each with whether it is padding.
        expected: its micro-batches. Where weights are sharded no process may call a tower more often than another.

    Raises:
        SeaAnchorError: a process has no image that could be read, and all must take part.
    """
    group, count = run.group, sum(len(batch.index_B) for batch, is_padding in readable if not is_padding)
    missing = len(readable) < (expected if is_sharded(run.setup.policy) else 1)
    num_images, empty, stop = group.total([count, missing, run.interrupted[0] and group.world > 1])
    if empty and group.world > 1:
        found = f"{empty:.0f} of {group.world} processes could read no image of their part of a step"
        raise SeaAnchorError(found, "readable images for every process", "remove broken files, or use larger batches")
    return num_images, stop > 0


@torch.no_grad()
def _embed_in_eval_mode(
    encoder: nn.Module, micro_batches: Sequence[MicroBatch], config: RunConfig
) -> tuple[Tensor, Tensor]:
    """Embeddings (B, D) of the clean images without padding, the policy's and the reference's."""
    encoder.eval()
    now = [
        embed_in_slices(encoder, clean.batch.pixels_BCHW, config).float()[: clean.num_images] for clean in micro_batches
    ]
    encoder.train()
    return torch.cat(now), torch.cat([clean.targets.reference_BD[: clean.num_images] for clean in micro_batches])


def _log(
    run: LoopContext, step: int, lr: float, record: StepRecord, embeddings: tuple[Tensor, Tensor], clock: Clock
) -> None:
    """One log line over the images of all processes, written by the first; all must ask."""
    record, now_BD, reference_BD = gathered(run.group, [record, *embeddings])
    if run.group.first:
        numbers = measure(record, now_BD, reference_BD, run.setup.config, run.setup.method.at(step - 1))
        row = {"step": step, "lr": lr} | numbers | clock.read(1)
        for show in (run.folder.log, run.progress.show, run.report, run.watch.look):
            show(row)


def _log_start(run: LoopContext, step: int, record: StepRecord) -> None:
    """A log line with the loss of the first step, of the first process's images; the weights are not trained yet."""
    row = {"step": step, START: record.objective_B.mean().item()}
    if run.group.first:
        run.folder.log(row)
    run.watch.look(row)


def _evaluate(run: LoopContext, step: int) -> None:
    """Evaluate in the first process; where weights are sharded, the others help to gather them."""
    setup, first, average = run.setup, run.group.first, run.state.average
    if not (first or is_sharded(setup.policy)):
        return
    row: dict[str, Any] = {"step": step}
    if (model := full_model(setup, first)) is not None:
        row["eval"] = run.evaluate(model, setup.config)
    if average is not None and step > 0:
        with average.swapped():
            if (model := full_model(setup, first)) is not None:
                row["eval_averaged"] = run.evaluate(model, setup.config)
    if first:
        run.folder.log(row)
        run.report(row)


def _finish(run: LoopContext, step: int, saved: int, clock: Clock) -> None:
    """Say what could not be read, save where the last step did not, and log the last of all where it had no images."""
    if summary := run.skip_log.summary():
        log.info(summary)
    if len(run.skip_log.reasons) == len(run.setup.images.paths):
        data = run.setup.config.train_data
        raise SeaAnchorError(f"no image in {data} could be read", "readable images", "see the reasons above")
    if saved < step:  # the last step had no images, or another process was asked to stop
        save_checkpoint(run.setup, run.state, run.group, run.folder, step, clock.total)
        if run.group.first and step == run.setup.total_steps:
            run.folder.log({"step": step} | clock.total)
    run.group.barrier()  # or a launcher, seeing the others end, would end the first process while it writes
