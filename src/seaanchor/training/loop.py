"""The training loop: its checkpoints and its log. What it is given comes from `prepare`, a single step from `step`.

Legend: B batch, N images of the data set, D embedding dimension.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.data.loader import SkipLog
from seaanchor.distributed.process_group import ProcessGroup, company, gathered
from seaanchor.distributed.sharding import is_split, own, shard, share_average, share_optimizer, whole
from seaanchor.encoders.encoder import LoadedModel, Reference
from seaanchor.encoders.kernels import activation_checkpointing, adam_options
from seaanchor.encoders.load import load_model
from seaanchor.encoders.low_precision import LowPrecisionCopy
from seaanchor.errors import SeaAnchorError
from seaanchor.training.averaging import WeightAverage
from seaanchor.training.loggers import Report, measure, reporting, tracker_package
from seaanchor.training.progress import Clock, Progress, stop_on_interrupt
from seaanchor.training.run_folder import RunFolder, check_output, open_run
from seaanchor.training.setup import (
    Setup,
    Share,
    make_targets,
    prepare,
    reference_cache,
    share_stream,
    start_accelerator,
    to_device,
)
from seaanchor.training.step import Moving, Part, runnable, set_learning_rate, stop_if_not_finite, whole_step
from seaanchor.utils.checkpoint import tensors_in
from seaanchor.utils.log import log

MemoryAdvice = Callable[[Setup, Moving, torch.device, int, RunFolder], AbstractContextManager[None]]


@dataclass(frozen=True)
class Hooks:
    """What a run asks of the layers above it.

    Attributes:
        evaluate: accuracies of the model as it is trained now, for `eval_every`; by default none.
        memory_advice: a context in which running out of memory becomes one error with settings that fit.
    """

    evaluate: Callable[[LoadedModel, RunConfig], dict[str, Any]] = lambda model, config: {}
    memory_advice: MemoryAdvice = lambda *run: nullcontext()


def train(config: RunConfig, hooks: Hooks = Hooks()) -> Path:
    """Train, evaluate and export one run; returns its folder.

    Raises:
        SeaAnchorError: settings that do not go group, bad data or weights, a run folder in use, a loss that is not
            finite, a lost process, too little memory.
    """
    check(config)
    accelerator = start_accelerator(config.device)
    with company() as group:
        return _train(config, hooks, accelerator, group)


def _train(config: RunConfig, hooks: Hooks, accelerator, group: ProcessGroup) -> Path:
    if accelerator.is_main_process:
        check_output(config)
        tracker_package(config.report_to)
    setup = prepare(config, accelerator.num_processes, accelerator.device)
    folder, state = _open(setup, group)
    setup = replace(
        setup, config=runnable(setup.config, accelerator.device)
    )  # the run folder keeps what was asked for, for a device that can do it
    if accelerator.is_main_process and setup.config.precision != config.precision:
        log.info(
            f"  {accelerator.device.type} has no arithmetic in {config.precision} here: updates run in fp32, "
            "which is faster"
        )
    moving = make_moving(setup, accelerator, state)
    step = state["step"] if state else 0
    room = hooks.memory_advice(setup, moving, accelerator.device, accelerator.num_processes, folder)
    with stop_on_interrupt() as interrupted, reporting(config, accelerator.is_main_process) as report, room:
        step = _loop(setup, moving, hooks, accelerator, group, folder, report, step, interrupted)
    if step < setup.total_steps:
        change = f"the state is saved; go on with --resume auto --output {config.output}"
        raise SeaAnchorError(f"stopped at batch {step} of {setup.total_steps}", "an uninterrupted run", change)
    export_run(setup, moving, folder, accelerator.is_main_process)
    return config.output


def _open(setup: Setup, group: ProcessGroup) -> tuple[RunFolder, dict | None]:
    """The first process opens the run folder, and the others read the checkpoint that it chose.

    Raises:
        SeaAnchorError: as `open_run`; or the others do not see the first one's folder.
    """
    folder, state = (
        open_run(setup.config, setup.identity, group.world)
        if group.rank == 0
        else (RunFolder(setup.config.output), None)
    )
    chosen = group.agree(state["step"] if state else None)
    if group.rank > 0 and chosen is not None:
        state = folder.load(chosen)
    return folder, state


def make_moving(setup: Setup, accelerator, state: dict | None) -> Moving:
    """Policy, dual and optimizers on the device, as the checkpoint left them. They move first: an optimizer puts its
    state where its parameters are when it loads."""
    config, anchor, device, split = (
        setup.config,
        setup.config.anchor,
        accelerator.device,
        in_parts(setup.config, accelerator),
    )
    parameters, shadow = _place(setup, device, state, split)
    options = adam_options(device) if config.optimizer == "adamw" else {}
    optimizer = {"adamw": torch.optim.AdamW, "adamax": torch.optim.Adamax}[config.optimizer](
        parameters, lr=config.lr, weight_decay=config.wd, **options
    )
    average = (
        None
        if config.average == "none"
        else WeightAverage(parameters, setup.total_steps, config.average, config.ema_decay)
    )
    moving_reference = (
        None
        if anchor.reference == "frozen"
        else WeightAverage(parameters, setup.total_steps, anchor.reference, anchor.reference_decay)
    )
    dual = setup.method.anchor.dual_module()
    dual_optimizer = None
    if dual is not None:
        for parameter in dual.to(device).parameters() if accelerator.num_processes > 1 else ():
            torch.distributed.broadcast(
                parameter.data, 0
            )  # seeded alike they are the same already; the wrapper of the policy does this, too
        dual_optimizer = torch.optim.AdamW(
            dual.parameters(), lr=config.anchor.dual_lr, weight_decay=0.0, **adam_options(device)
        )
    if state is not None:
        optimizer.load_state_dict(share_optimizer(state["optimizer"], parameters))
        if dual is not None and dual_optimizer is not None:
            dual.load_state_dict(state["dual"])
            dual_optimizer.load_state_dict(state["dual_optimizer"])
        if average is not None:
            average.load_state_dict(share_average(state["average"], parameters))
        if moving_reference is not None:
            moving_reference.load_state_dict(share_average(state["moving_reference"], parameters))
    setup.policy.train()
    policy, optimizer = (
        (setup.policy, accelerator.prepare(optimizer)) if split else accelerator.prepare(setup.policy, optimizer)
    )
    return Moving(policy, optimizer, dual, dual_optimizer, average, shadow, moving_reference)


def in_parts(config: RunConfig, accelerator) -> bool:
    """Whether the weights are split among processes."""
    return config.shard and accelerator.num_processes > 1


def _place(
    setup: Setup, device: torch.device, state: dict | None, split: bool
) -> tuple[list[nn.Parameter], LowPrecisionCopy | None]:
    """Policy and reference on the device, the policy as the checkpoint left it: what is trained of it, and its
    low-precision copy if there is one."""
    config, encoder = setup.config, setup.policy if split else setup.policy.to(device)
    setup.reference.to(device)
    parameters = list(setup.method.adapter.trainable(encoder))
    if config.checkpoint_activations:
        with activation_checkpointing(encoder):  # or its error would come after the reference embeddings
            pass
    if state is not None:
        encoder.load_state_dict(state["policy"])
    if not split:
        encoder.to(device)  # what the adapter has added, too
    shadow = LowPrecisionCopy(setup.model.encoder) if config.attack_precision == "bf16" else None
    if split:
        shard(encoder, device)
        if shadow is not None:
            shard(shadow.encoder, device)
        parameters = list(encoder.parameters())
    return parameters, shadow


def export_run(setup: Setup, moving: Moving, folder: RunFolder, write: bool = True) -> None:
    """Write `export`, and the average of the weights to `export-averaged` if one was kept. A linear map is written as
    it is, too.

    Args:
        write: whether this process does; where weights are split, all take part.
    """
    from seaanchor.export.trained import export_trained

    setup.model.encoder.unit = False  # training is over, and libraries know raw embeddings alone
    if moving.average is not None and (write or is_split(setup.policy)):
        with moving.average.swapped():
            if (model := _whole_model(setup, write)) is not None:
                export_trained(model, setup.policy, folder.root / "export-averaged")
    if (model := _whole_model(setup, write)) is not None:
        export_trained(model, setup.policy, folder.export)


def _whole_model(setup: Setup, keep: bool) -> LoadedModel | None:
    """The model as it is trained now, in the process that keeps it; where its weights are split, all take part, and it
    is another one, loaded for them."""
    if not is_split(setup.policy):
        return setup.model if keep else None
    weights = whole(setup.policy.state_dict(), keep)
    if not keep:
        return None
    torch.manual_seed(
        setup.config.seed
    )  # as `prepare` does, for what has random weights; every step sets a seed of its own
    model = load_model(setup.config.model, setup.config.pretrained, setup.config.image_size)
    model.encoder.load_state_dict(weights)
    model.encoder.to(setup.model.encoder.mean.device)
    return model


def _loop(
    setup: Setup,
    moving: Moving,
    hooks: Hooks,
    accelerator,
    group: ProcessGroup,
    folder: RunFolder,
    report: Report,
    step: int,
    interrupted: list[bool],
) -> int:
    config, total, main, device = setup.config, setup.total_steps, accelerator.is_main_process, accelerator.device
    skip_log, progress = SkipLog(setup.images), Progress(total, step, main)
    cache_ND = reference_cache(setup, accelerator)
    split = is_split(setup.policy)
    if split:  # only now, as not every process asks it equally often for what the disk may hold
        shard(cast(Reference, setup.reference).encoder, device)
    stream = share_stream(setup, step, group.rank, group.world, skip_log)
    if step == 0 and config.eval_every and (main or split):
        _evaluate(
            setup, moving, hooks, folder, report, step, main
        )  # where training starts from, and whatever is wrong with val_data
    stop, saved, clock = False, step, Clock()
    while step < total and not stop:
        dealt = next(stream)
        shares = [share for share in dealt if len(share.batch.index_B)]
        step += 1
        images, asked = _agree(shares, len(dealt) if split else 1, group, interrupted)
        if asked:
            step -= 1  # this batch is not begun
            break
        if images == 0:
            continue
        cleans = [to_device(share.batch, device) for share in shares]
        parts = [
            Part(clean, make_targets(setup, clean, cache_ND), share.counts)
            for clean, share in zip(cleans, shares, strict=True)
        ]
        lr = set_learning_rate(moving.optimizer, config, step - 1, total)
        record = whole_step(setup.method, moving, accelerator, parts, config, step - 1, setup.reference, images)
        clock.images += int(images)
        stop = group.world == 1 and interrupted[0]
        log_now, save_now = (
            step % config.log_every == 0 or step == total,
            step % config.save_every == 0 or step == total or stop,
        )
        if log_now or save_now:
            now_BD, reference_BD = _embed_in_eval_mode(setup.policy, parts)
            stop_if_not_finite([record.objective_B, now_BD], step, folder, accelerator)
        elif device.type == "cpu":  # elsewhere a look would make the device wait
            stop_if_not_finite([record.objective_B], step, folder, accelerator)
        if log_now:
            record, now_BD, reference_BD = gathered(group, [record, now_BD, reference_BD])
            if main:
                row = {"step": step, "lr": lr} | measure(record, now_BD, reference_BD, config) | clock.read(1)
                for show in (folder.log, progress.show, report):
                    show(row)
        with clock.paused():
            if config.eval_every and step % config.eval_every == 0 and (main or split):
                _evaluate(setup, moving, hooks, folder, report, step, main)
            if save_now:
                _save(setup, moving, accelerator, folder, step)
                saved = step
    if summary := skip_log.summary():
        log.info(summary)
    if len(skip_log.reasons) == len(setup.images.paths):
        raise SeaAnchorError(
            f"no image in {config.train_data} could be read", "readable images", "see the reasons above"
        )
    if saved < step:  # the last batch was skipped, or another process was asked to stop
        _save(setup, moving, accelerator, folder, step)
    group.barrier()  # or a launcher, seeing the others end, would end the first process while it writes
    return step


@torch.no_grad()
def _embed_in_eval_mode(encoder: nn.Module, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """Embeddings of the clean images that count, the policy's and the reference's."""
    encoder.eval()
    pairs = [(encoder(part.clean.pixels_BCHW).float(), part.targets.reference_BD, part.counts) for part in parts]
    encoder.train()
    now, reference = zip(*((a[: len(a) * counts], b[: len(b) * counts]) for a, b, counts in pairs), strict=True)
    return torch.cat(now), torch.cat(reference)


def _evaluate(
    setup: Setup, moving: Moving, hooks: Hooks, folder: RunFolder, report: Report, step: int, main: bool
) -> None:
    """In the first process; where weights are split, the others help to put them group."""
    row: dict[str, Any] = {"step": step}
    if (model := _whole_model(setup, main)) is not None:
        row["eval"] = hooks.evaluate(model, setup.config)
    if moving.average is not None and step > 0:
        with moving.average.swapped():
            if (model := _whole_model(setup, main)) is not None:
                row["eval_averaged"] = hooks.evaluate(model, setup.config)
    if main:
        folder.log(row)
        report(row)


def _agree(shares: Sequence[Share], least: int, group: ProcessGroup, interrupted: list[bool]) -> tuple[float, bool]:
    """Images of all processes that could be read and count, and whether one of several processes is asked to stop: the
    others learn it here.

    Args:
        least: shares that every process needs; where weights are split, none may call a tower more often than another.

    Raises:
        SeaAnchorError: a process has no image of its own that could be read, and all must take part.
    """
    count = sum(len(share.batch.index_B) for share in shares if share.counts)
    images, empty, stop = group.total([count, len(shares) < least, interrupted[0] and group.world > 1])
    if empty and group.world > 1:
        found = f"{empty:.0f} of {group.world} processes could read no image of their share of a batch"
        raise SeaAnchorError(found, "readable images for every process", "remove broken files, or use larger batches")
    return images, stop > 0


def _save(setup: Setup, moving: Moving, accelerator, folder: RunFolder, step: int) -> None:
    """Write a checkpoint, unless it is none to go on from: the loss was computed before the last update and does not
    vouch for it."""
    state = {
        "step": step,
        "identity": setup.identity,
        "policy": setup.policy.state_dict(),
        "optimizer": moving.optimizer.state_dict(),
    }
    if moving.dual is not None and moving.dual_optimizer is not None:
        state |= {"dual": moving.dual.state_dict(), "dual_optimizer": moving.dual_optimizer.state_dict()}
    if moving.average is not None:
        state["average"] = moving.average.state_dict()
    if moving.moving_reference is not None:
        state["moving_reference"] = moving.moving_reference.state_dict()
    stop_if_not_finite(own(tensors_in(state)), step, folder, accelerator)
    state = whole(state, accelerator.is_main_process)
    if accelerator.is_main_process:
        folder.save(step, state)


__all__ = ["make_moving", "train"]
