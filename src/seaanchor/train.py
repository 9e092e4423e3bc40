"""The training loop: what it is given, its batches, its checkpoints. A single step is in `step`.

Legend: B batch, N images of the data set, D embedding dimension.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.checkpoint import tensors_in
from seaanchor.config import RunConfig, check, needs_classes
from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches, training_order
from seaanchor.data.sources import open_images
from seaanchor.encoders.cache import embed_all
from seaanchor.encoders.encoder import LoadedModel, Reference, fingerprint
from seaanchor.encoders.head import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method
from seaanchor.parts import Batch, Head, Targets
from seaanchor.progress import Clock, Progress, stop_on_interrupt
from seaanchor.recipes import assemble
from seaanchor.runs import RunFolder, check_output, open_run
from seaanchor.step import Moving, set_learning_rate, stop_if_not_finite, train_step
from seaanchor.tracking import Report, measure, reporting, tracker_package

CACHE_LIMIT = 2e9  # bytes of reference embeddings kept in memory


@dataclass(frozen=True)
class Setup:
    """Everything the loop reads and does not change. `identity` is what a resumed run must share besides its settings."""

    config: RunConfig
    model: LoadedModel
    reference: Reference
    method: Method
    images: ImageList
    head: Head | None
    total_steps: int
    identity: dict[str, Any]


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
    setup = prepare(config, accelerator.num_processes)
    folder, state = _open(setup, accelerator)
    moving = make_moving(setup, accelerator, state)
    step = state["step"] if state else 0
    with stop_on_interrupt() as interrupted, reporting(config, accelerator.is_main_process) as report:
        step = _loop(setup, moving, accelerator, folder, report, step, interrupted)
    if step < setup.total_steps:
        change = f"the state is saved; go on with --resume auto --output {config.output}"
        raise SeaAnchorError(f"stopped at batch {step} of {setup.total_steps}", "an uninterrupted run", change)
    if accelerator.is_main_process:
        from seaanchor.export.folder import export_model

        export_model(setup.model, folder.export)
    return config.output


def start_accelerator(device: str | None):
    """The processes and the device of this run.

    Mixed precision is not left to the library: it wraps the encoder's own forward, and then attacks, evaluation and export would run
    in bf16 too. What an earlier run of this process chose is forgotten first, or a CPU run would fix the device for good.

    Raises:
        SeaAnchorError: the machine has no such device.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision="no", cpu=device == "cpu")
    if device not in (None, accelerator.device.type):
        change = "leave --device out; choose among several GPUs by CUDA_VISIBLE_DEVICES"
        raise SeaAnchorError(f"--device {device}, but training here runs on {accelerator.device.type}", f"cpu or {accelerator.device.type}", change)
    return accelerator


def prepare(config: RunConfig, world: int = 1) -> Setup:
    """Load model, data and head, and assemble the method."""
    check(config)
    torch.manual_seed(config.seed)
    model = load_model(config.model, config.pretrained, config.image_size)
    images = open_images(config.train_data, config.class_names)
    if len(images.paths) < world:
        raise SeaAnchorError(f"{len(images.paths)} images in {config.train_data}", f"at least one for each of {world} processes", "use fewer processes")
    head = None
    if needs_classes(config):
        if images.class_names is None:
            wanted = f"labelled images for objective {config.objective.kind} with an anchor on {config.anchor.on}"
            raise SeaAnchorError(f"{config.train_data} has no class folders", wanted, "sort the images into class folders")
        head = build_head(model, images.class_names, config.templates)
    method = assemble(config, model.encoder.dim)
    longest = config.epochs * steps_per_epoch(len(images.paths), config.batch_size, world)
    total = min(config.max_steps or longest, longest)
    names = "\n".join(str(path)[len(str(images.root)) :] for path in images.paths)
    identity = {"reference": fingerprint(model.encoder), "images": hashlib.sha256(names.encode()).hexdigest()[:16], "processes": world}
    return Setup(config, model, Reference(model.encoder), method, images, head, total, identity)


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
    config, encoder = setup.config, setup.model.encoder.to(accelerator.device)
    setup.reference.to(accelerator.device)
    optimizer = torch.optim.AdamW(list(setup.method.adapter.trainable(encoder)), lr=config.lr, weight_decay=config.wd)
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
    encoder.train()
    policy, optimizer = accelerator.prepare(encoder, optimizer)
    return Moving(policy, optimizer, dual, dual_optimizer)


def _loop(setup: Setup, moving: Moving, accelerator, folder: RunFolder, report: Report, step: int, interrupted: list[bool]) -> int:
    config, encoder, total, main = setup.config, setup.model.encoder, setup.total_steps, accelerator.is_main_process
    skip_log, progress = SkipLog(setup.images), Progress(total, step, main)
    cache_ND = reference_cache(setup, accelerator)
    stream = batch_stream(setup, step, accelerator.process_index, accelerator.num_processes, skip_log)
    if step == 0 and config.eval_every and main:
        _evaluate(setup, folder, report, step)  # where training starts from, and whatever is wrong with val_data
    stop, saved, clock = False, step, Clock()
    while step < total and not stop:
        clean = to_device(next(stream), accelerator.device)
        step += 1
        if skipped(clean, accelerator.num_processes):
            continue
        targets = make_targets(setup, clean, cache_ND)
        lr = set_learning_rate(moving.optimizer, config, step - 1, total)
        record = train_step(setup.method, moving, accelerator, clean, targets, config, step - 1)
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
                _evaluate(setup, folder, report, step)
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


def _evaluate(setup: Setup, folder: RunFolder, report: Report, step: int) -> None:
    from seaanchor.evaluation.zeroshot import quick_accuracy

    row = {"step": step, "eval": quick_accuracy(setup.model, setup.config)}
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
    state = {"step": step, "identity": setup.identity, "policy": setup.model.encoder.state_dict(), "optimizer": moving.optimizer.state_dict()}
    if moving.dual is not None and moving.dual_optimizer is not None:
        state |= {"dual": moving.dual.state_dict(), "dual_optimizer": moving.dual_optimizer.state_dict()}
    stop_if_not_finite(tensors_in(state), step, folder, accelerator)
    if accelerator.is_main_process:
        folder.save(step, state)


def batch_stream(setup: Setup, step: int, rank: int, world: int, skip_log: SkipLog) -> Iterator[Batch]:
    """This process's batches from `step` on; the order is a pure function of seed and epoch, so resuming needs no state."""
    config, count = setup.config, len(setup.images.paths)
    dataset = FolderDataset(setup.images, setup.model.encoder.image_size)
    per_epoch, together = steps_per_epoch(count, config.batch_size, world), config.batch_size * world
    for epoch in range(step // per_epoch, config.epochs):
        order = training_order(count, epoch, config.seed)
        local = [i for s in range(step % per_epoch, per_epoch) for i in order[s * together : (s + 1) * together][rank::world]]
        yield from batches(dataset, config.batch_size, workers=config.workers, order=local, skip_log=skip_log)
        step = (epoch + 1) * per_epoch


def steps_per_epoch(count: int, batch_size: int, world: int) -> int:
    """Batches per pass: the last, smaller one counts, unless several processes would get unequal shares of it."""
    return math.ceil(count / batch_size) if world == 1 else max(1, count // (batch_size * world))


def skipped(batch: Batch, world: int) -> bool:
    """Whether no image of the batch could be read.

    Raises:
        SeaAnchorError: so it is, and other processes wait for this one's gradients.
    """
    if len(batch.index_B) == 0 and world > 1:
        raise SeaAnchorError("not one image of a batch could be read", "readable images in several processes", "remove broken files, or use larger batches")
    return len(batch.index_B) == 0


def make_targets(setup: Setup, batch: Batch, cache_ND: Tensor | None) -> Targets:
    """The reference's embeddings of the batch, from the cache or in one forward, with labels and head."""
    reference_BD = setup.reference(batch.pixels_BCHW) if cache_ND is None else cache_ND[batch.index_B]
    head = setup.head
    if head is not None:
        head = replace(head, weight_CD=head.weight_CD.to(reference_BD.device))
    return Targets(reference_BD, batch.label_B, head)


def caches_reference(setup: Setup, world: int) -> bool:
    """Whether all reference embeddings are computed beforehand: each is used more than once, and they fit in memory."""
    count = len(setup.images.paths)
    visits = setup.total_steps * setup.config.batch_size * world / count
    return visits > 1.5 and 4 * count * setup.model.encoder.dim <= CACHE_LIMIT


def reference_cache(setup: Setup, accelerator) -> Tensor | None:
    """All reference embeddings (N, D), or None where `caches_reference` says that they do not pay."""
    if not caches_reference(setup, accelerator.num_processes):
        return None
    dataset = FolderDataset(setup.images, setup.model.encoder.image_size)
    stream = batches(dataset, setup.config.batch_size, workers=setup.config.workers, order=None, skip_log=SkipLog(setup.images))
    return embed_all(setup.reference, stream, len(setup.images.paths), accelerator.device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device."""
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    return Batch(batch.pixels_BCHW.to(device), label_B, batch.index_B.to(device))
