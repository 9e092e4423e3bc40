"""The training loop: its checkpoints and its log. What it is given comes from `prepare`, a single step from `step`.

Legend: B batch, N images of the data set, D embedding dimension.
"""


from pathlib import Path

import torch
from torch import Tensor, nn

from seaanchor.averaging import WeightAverage
from seaanchor.checkpoint import tensors_in
from seaanchor.config import RunConfig, check
from seaanchor.data.folder import SkipLog
from seaanchor.errors import SeaAnchorError
from seaanchor.parts import Batch
from seaanchor.prepare import Setup, batch_stream, caches_reference, make_targets, prepare, reference_cache, start_accelerator, to_device
from seaanchor.progress import Clock, Progress, stop_on_interrupt
from seaanchor.runs import RunFolder, check_output, open_run
from seaanchor.step import Moving, set_learning_rate, stop_if_not_finite, train_step
from seaanchor.tracking import Report, measure, reporting, tracker_package


def train(config: RunConfig) -> Path:
    """Train, evaluate and export one run; returns its folder.

    Raises:
        SeaAnchorError: settings that do not go together, bad data or weights, a run folder in use, a loss that is not finite.
    """
    check(config)
    accelerator = start_accelerator(config.device)
    if accelerator.is_main_process:
        check_output(config)
        tracker_package(config.report_to)
    setup = prepare(config, accelerator.num_processes, accelerator.device)
    folder, state = _open(setup, accelerator)
    moving = make_moving(setup, accelerator, state)
    step = state["step"] if state else 0
    with stop_on_interrupt() as interrupted, reporting(config, accelerator.is_main_process) as report:
        step = _loop(setup, moving, accelerator, folder, report, step, interrupted)
    if step < setup.total_steps:
        change = f"the state is saved; go on with --resume auto --output {config.output}"
        raise SeaAnchorError(f"stopped at batch {step} of {setup.total_steps}", "an uninterrupted run", change)
    if accelerator.is_main_process:
        export_run(setup, moving, folder)
    return config.output


def _open(setup: Setup, accelerator) -> tuple[RunFolder, dict | None]:
    """The main process opens the run folder, and the others read the checkpoint that it chose.

    Raises:
        SeaAnchorError: as `open_run`; or model weights, images or the number of processes are not those the run started with.
    """
    from accelerate.utils import broadcast_object_list

    folder, state = open_run(setup.config) if accelerator.is_main_process else (RunFolder(setup.config.output), None)
    (chosen,) = broadcast_object_list([state["step"] if state else None])
    if not accelerator.is_main_process and chosen is not None:
        state = folder.load(chosen)
    before = setup.identity if state is None else state["identity"]
    if changed := [name for name, value in setup.identity.items() if before.get(name) != value]:
        found = f"the run in {folder.root} was started with other {' and '.join(changed)}"
        raise SeaAnchorError(found, "the same weights, image files and number of processes when resuming", "undo the change, or start anew in another --output")
    return folder, state


def make_moving(setup: Setup, accelerator, state: dict | None) -> Moving:
    """Policy, dual and optimizers on the device, as the checkpoint left them. They move first: an optimizer puts its state where its
    parameters are when it loads."""
    config, encoder = setup.config, setup.policy.to(accelerator.device)
    setup.reference.to(accelerator.device)
    parameters = list(setup.method.adapter.trainable(encoder))
    encoder.to(accelerator.device)  # what the adapter has added, too
    optimizer = {"adamw": torch.optim.AdamW, "adamax": torch.optim.Adamax}[config.optimizer](parameters, lr=config.lr, weight_decay=config.wd)
    average = None if config.average == "none" else WeightAverage(parameters, setup.total_steps, config.average, config.ema_decay)
    dual = setup.method.anchor.dual_module()
    dual_optimizer = None
    if dual is not None:
        dual_optimizer = torch.optim.AdamW(dual.to(accelerator.device).parameters(), lr=config.anchor.dual_lr, weight_decay=0.0)
    if state is not None:
        encoder.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        if dual is not None and dual_optimizer is not None:
            dual.load_state_dict(state["dual"])
            dual_optimizer.load_state_dict(state["dual_optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])
    encoder.train()
    policy, optimizer = accelerator.prepare(encoder, optimizer)
    return Moving(policy, optimizer, dual, dual_optimizer, average)


def export_run(setup: Setup, moving: Moving, folder: RunFolder) -> None:
    """Write `export`, and the average of the weights to `export-averaged` if one was kept. A linear map is written as it is, too."""
    from seaanchor.export.trained import export_trained

    if moving.average is not None:
        with moving.average.swapped():
            export_trained(setup.model, setup.policy, folder.root / "export-averaged")
    export_trained(setup.model, setup.policy, folder.export)


def _loop(setup: Setup, moving: Moving, accelerator, folder: RunFolder, report: Report, step: int, interrupted: list[bool]) -> int:
    config, encoder, total, main = setup.config, setup.policy, setup.total_steps, accelerator.is_main_process
    skip_log, progress = SkipLog(setup.images), Progress(total, step, main)
    cache_ND = reference_cache(setup, accelerator)
    stream = batch_stream(setup, step, accelerator.process_index, accelerator.num_processes, skip_log)
    if step == 0 and config.eval_every and main:
        _evaluate(setup, moving, folder, report, step)  # where training starts from, and whatever is wrong with val_data
    stop, saved, clock = False, step, Clock()
    while step < total and not stop:
        clean = to_device(next(stream), accelerator.device)
        step += 1
        if skipped(clean, accelerator.num_processes):
            continue
        targets = make_targets(setup, clean, cache_ND)
        lr = set_learning_rate(moving.optimizer, config, step - 1, total)
        record = train_step(setup.method, moving, accelerator, clean, targets, config, step - 1, setup.reference)
        clock.images += len(clean.index_B)
        stop = _asked_to_stop(interrupted, accelerator, step, config.log_every)
        log_now, save_now = step % config.log_every == 0 or step == total, step % config.save_every == 0 or step == total or stop
        if log_now or save_now:
            now_BD = _embed_in_eval_mode(encoder, clean)
            stop_if_not_finite([record.objective_B, now_BD], step, folder, accelerator)
        elif accelerator.device.type == "cpu":  # elsewhere a look would make the device wait
            stop_if_not_finite([record.objective_B], step, folder, accelerator)
        if log_now and main:
            row = {"step": step, "lr": lr} | measure(record, now_BD, targets, config.anchor.rho) | clock.read(accelerator.num_processes)
            for show in (folder.log, progress.show, report):
                show(row)
        with clock.paused():
            if config.eval_every and step % config.eval_every == 0 and main:
                _evaluate(setup, moving, folder, report, step)
            if save_now:
                _save(setup, moving, accelerator, folder, step)
                saved = step
    if summary := skip_log.summary():
        print(summary, flush=True)
    if len(skip_log.reasons) == len(setup.images.paths):
        raise SeaAnchorError(f"no image in {config.train_data} could be read", "readable images", "see the reasons above")
    if saved < step:  # the last batch was skipped
        _save(setup, moving, accelerator, folder, step)
    return step


@torch.no_grad()
def _embed_in_eval_mode(encoder: nn.Module, batch: Batch) -> Tensor:
    encoder.eval()
    embedding_BD = encoder(batch.pixels_BCHW).float()
    encoder.train()
    return embedding_BD


def _evaluate(setup: Setup, moving: Moving, folder: RunFolder, report: Report, step: int) -> None:
    from seaanchor.evaluation.zeroshot import quick_accuracy

    row = {"step": step, "eval": quick_accuracy(setup.model, setup.config)}
    if moving.average is not None and step > 0:
        with moving.average.swapped():
            row["eval_averaged"] = quick_accuracy(setup.model, setup.config)
    folder.log(row)
    report(row)


def _asked_to_stop(interrupted: list[bool], accelerator, step: int, log_every: int) -> bool:
    """Whether to stop after this batch. Several processes must agree, or the others wait for ever: they ask each other when they log."""
    if accelerator.num_processes == 1:
        return interrupted[0]
    if step % log_every:
        return False
    return accelerator.reduce(torch.tensor(float(interrupted[0]), device=accelerator.device), "sum").item() > 0


def _save(setup: Setup, moving: Moving, accelerator, folder: RunFolder, step: int) -> None:
    """Write a checkpoint, unless it is none to go on from: the loss was computed before the last update and does not vouch for it."""
    state = {"step": step, "identity": setup.identity, "policy": setup.policy.state_dict(), "optimizer": moving.optimizer.state_dict()}
    if moving.dual is not None and moving.dual_optimizer is not None:
        state |= {"dual": moving.dual.state_dict(), "dual_optimizer": moving.dual_optimizer.state_dict()}
    if moving.average is not None:
        state["average"] = moving.average.state_dict()
    stop_if_not_finite(tensors_in(state), step, folder, accelerator)
    if accelerator.is_main_process:
        folder.save(step, state)


def skipped(batch: Batch, world: int) -> bool:
    """Whether no image of the batch could be read.

    Raises:
        SeaAnchorError: so it is, and other processes wait for this one's gradients.
    """
    if len(batch.index_B) == 0 and world > 1:
        raise SeaAnchorError("not one image of a batch could be read", "readable images in several processes", "remove broken files, or use larger batches")
    return len(batch.index_B) == 0


__all__ = ["Setup", "batch_stream", "caches_reference", "make_moving", "make_targets", "prepare", "reference_cache", "start_accelerator", "to_device", "train"]
