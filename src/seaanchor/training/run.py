"""A training run from its settings to its export."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from seaanchor.config.describe import with_method
from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.data.loader import SkipLog
from seaanchor.distributed.agreement import check_same
from seaanchor.distributed.failing import tells_others
from seaanchor.distributed.launch import start_training
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.distributed.watch import watched_group
from seaanchor.encoders.head_file import write_head
from seaanchor.errors import SeaAnchorError
from seaanchor.training.agreement import facts
from seaanchor.training.divergence import LossWatch
from seaanchor.training.finish import export_run
from seaanchor.training.loggers import reporting, tracker_package
from seaanchor.training.loop import Evaluate, LoopContext, training_loop
from seaanchor.training.precision import computed_in, told_runnable
from seaanchor.training.progress import Progress, stop_on_interrupt
from seaanchor.training.resume import check_output, open_run
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import Given, Setup, prepare
from seaanchor.training.state import TrainState, make_state
from seaanchor.training.summary import header
from seaanchor.utils.locks import locked
from seaanchor.utils.log import log
from seaanchor.utils.stages import stage

MemoryAdvice = Callable[[Setup, TrainState, int, RunFolder], AbstractContextManager[None]]
Fitted = Callable[[Setup, TrainState, ProcessGroup], RunConfig]


@dataclass(frozen=True)
class Hooks:
    """What a run asks of the layers above it.

    Attributes:
        evaluate: accuracies of the model as it is trained now, for `eval_every`; by default none.
        memory_advice: setup, state, number of processes, run folder → a context in which running out of memory becomes
            one error with settings that fit.
        fitted: setup, state, processes → the settings with what they leave open for the memory at hand.
    """

    evaluate: Evaluate = lambda model, config: {}
    memory_advice: MemoryAdvice = lambda *run: nullcontext()
    fitted: Fitted = lambda setup, *run: setup.config


@tells_others
def train(config: RunConfig, hooks: Hooks = Hooks(), given: Given = Given()) -> Path:
    """Train, evaluate and export one run; returns its folder.

    Args:
        config: of the run.
        hooks: what it asks of the layers above.
        given: objects in place of what the configuration names. Its names of them are only written down.

    Raises:
        SeaAnchorError: settings that do not go together, bad data or weights, a run folder in use, a loss that is not
            finite, a lost process, too little memory.
    """
    config = config if given.method is None else with_method(config, given.method)
    check(config, given.method)
    device = start_training(config.device)
    with watched_group() as group:
        return _train(config, hooks, group, device, given)


def _train(config: RunConfig, hooks: Hooks, group: ProcessGroup, device: torch.device, given: Given) -> Path:
    if group.first:
        check_output(config)
        tracker_package(config.report_to)
    setup = prepare(config, group.world, device, given)
    if group.world > 1:
        check_same(group, facts(setup))
    with locked(config.output) if group.first else nullcontext():
        return _run(setup, hooks, group)


def _run(setup: Setup, hooks: Hooks, group: ProcessGroup) -> Path:
    config, device = setup.config, setup.device
    folder, checkpoint = _open(setup, group)
    if group.first and setup.model.stored_head is not None:
        write_head(setup.model.stored_head, folder.head)
    # the run folder keeps the settings that were asked for, for a device that can run them
    setup = replace(setup, config=told_runnable(setup.config, device, group.first))
    state = make_state(setup, group, checkpoint)
    step, seen = (checkpoint["step"], checkpoint.get("images_seen")) if checkpoint else (0, 0)
    setup = replace(setup, config=hooks.fitted(setup, state, group))
    log.info("\n".join(header(setup, group.world, step)))
    memory_advice = hooks.memory_advice(setup, state, group.world, folder)
    with stop_on_interrupt() as interrupted, reporting(config, group.first) as report, memory_advice:
        progress = Progress(setup.total_steps, step, group.first)
        skip_log, watch = SkipLog(setup.images), LossWatch(folder.rows())
        context = LoopContext(
            setup, state, hooks.evaluate, group, folder, report, progress, skip_log, interrupted, watch, seen
        )
        with stage("training", setup.total_steps, "batches", lines=False):
            step = training_loop(context, step)
    if step < setup.total_steps:
        change = f"the state is saved in {config.output}; go on by the same command with --resume auto"
        raise SeaAnchorError(f"stopped at step {step} of {setup.total_steps}", "an uninterrupted run", change)
    export_run(setup, state, folder, group.first)
    return config.output


def _open(setup: Setup, group: ProcessGroup) -> tuple[RunFolder, dict[str, Any] | None]:
    """The run folder and the checkpoint to go on from: the first process chooses it, and the others read the same one.

    Raises:
        SeaAnchorError: as `open_run`; or the others do not see the first one's folder.
    """
    folder, checkpoint = RunFolder(setup.config.output), None
    if group.first:
        computed = computed_in(setup.config, setup.device)
        folder, checkpoint = open_run(setup.config, setup.identity, group.world, setup.start, computed)
    chosen = group.agree(checkpoint["step"] if checkpoint else None)
    if not group.first and chosen is not None:
        checkpoint = folder.load(chosen)
    return folder, checkpoint


__all__ = ["Fitted", "Hooks", "MemoryAdvice", "train"]
