"""The training loop: perturb, K primal steps, one dual step.

Legend: B batch, D embedding dimension.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seaanchor.config import RunConfig, check, needs_classes
from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches, training_order
from seaanchor.data.sources import open_images
from seaanchor.encoders.cache import embed_all
from seaanchor.encoders.encoder import LoadedModel, Reference
from seaanchor.encoders.head import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Method
from seaanchor.parts import Batch, Constraint, Embeddings, Head, Targets
from seaanchor.progress import Progress
from seaanchor.recipes import assemble
from seaanchor.runs import RunFolder, open_run

CACHE_LIMIT = 2e9  # bytes of reference embeddings kept in memory


@dataclass(frozen=True)
class Setup:
    """Everything the loop reads and does not change."""

    config: RunConfig
    model: LoadedModel
    reference: Reference
    method: Method
    images: ImageList
    head: Head | None
    total_steps: int


@dataclass(frozen=True)
class Moving:
    """Everything the loop changes: the wrapped policy and dual with their optimizers."""

    policy: nn.Module
    optimizer: torch.optim.Optimizer
    dual: nn.Module | None
    dual_optimizer: torch.optim.Optimizer | None


@dataclass(frozen=True)
class StepRecord:
    """What a step leaves for the log, still on the device: per-sample loss, and the constraint and multipliers where there are any."""

    objective_B: Tensor
    constraint: Constraint | None
    multiplier_B: Tensor | None


def train(config: RunConfig) -> Path:
    """Train, evaluate and export one run; returns its folder.

    Raises:
        SeaAnchorError: settings that do not go together, bad data or weights, a run folder in use, a loss that is not finite.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="bf16" if config.precision == "bf16" else "no", cpu=config.device == "cpu")
    setup = prepare(config, accelerator.num_processes)
    folder, state = open_run(config)
    moving = _moving(setup, accelerator, state)
    step = state["step"] if state else 0
    with stop_on_interrupt() as interrupted:
        step = _loop(setup, moving, accelerator, folder, step, interrupted)
    _save(folder, moving, accelerator, step)
    if step < setup.total_steps:
        raise SeaAnchorError(f"stopped at batch {step} of {setup.total_steps}", "an uninterrupted run", f"the state is saved; go on with --resume auto --output {config.output}")
    if accelerator.is_main_process:
        from seaanchor.export.folder import export_model

        export_model(setup.model, folder.export)
    return config.output


def prepare(config: RunConfig, world: int = 1) -> Setup:
    """Load model, data and head, and assemble the method."""
    check(config)
    torch.manual_seed(config.seed)
    model = load_model(config.model, config.pretrained, config.image_size)
    images = open_images(config.train_data, config.class_names)
    head = None
    if needs_classes(config):
        if images.class_names is None:
            raise SeaAnchorError(f"{config.train_data} has no class folders", f"labelled images for objective {config.objective.kind}", "sort the images into class folders")
        head = build_head(model, images.class_names, config.templates)
    method = assemble(config, model.encoder.dim)
    longest = config.epochs * steps_per_epoch(len(images.paths), config.batch_size, world)
    total = min(config.max_steps or longest, longest)
    return Setup(config, model, Reference(model.encoder), method, images, head, total)


def _moving(setup: Setup, accelerator, state: dict | None) -> Moving:
    config, encoder = setup.config, setup.model.encoder
    parameters = list(setup.method.adapter.trainable(encoder))
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.wd)
    dual = setup.method.anchor.dual_module()
    dual_optimizer = torch.optim.AdamW(dual.parameters(), lr=config.anchor.dual_lr, weight_decay=0.0) if dual is not None else None
    if state is not None:
        encoder.load_state_dict(state["policy"])
        optimizer.load_state_dict(state["optimizer"])
        if dual is not None and dual_optimizer is not None:
            dual.load_state_dict(state["dual"])
            dual_optimizer.load_state_dict(state["dual_optimizer"])
        torch.set_rng_state(state["torch_rng"])
    encoder.train()
    setup.reference.to(accelerator.device)
    if dual is not None:
        dual.to(accelerator.device)
    policy, optimizer = accelerator.prepare(encoder, optimizer)
    return Moving(policy, optimizer, dual, dual_optimizer)


def _save(folder: RunFolder, moving: Moving, accelerator, step: int) -> None:
    if not accelerator.is_main_process:
        return
    state = {
        "step": step,
        "policy": accelerator.unwrap_model(moving.policy).state_dict(),
        "optimizer": moving.optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
    }
    if moving.dual is not None and moving.dual_optimizer is not None:
        state |= {"dual": moving.dual.state_dict(), "dual_optimizer": moving.dual_optimizer.state_dict()}
    folder.save(step, state)


def _loop(setup: Setup, moving: Moving, accelerator, folder: RunFolder, step: int, interrupted: list[bool]) -> int:
    config = setup.config
    cache_ND = _reference_cache(setup, accelerator.device)
    skip_log = SkipLog(setup.images)
    progress = Progress(setup.total_steps, step, accelerator.is_main_process)
    seen, since = 0, time.monotonic()
    for batch in batch_stream(setup, step, accelerator.process_index, accelerator.num_processes, skip_log):
        if step >= setup.total_steps or interrupted[0]:
            break
        clean = to_device(batch, accelerator.device)
        targets = make_targets(setup, clean, cache_ND)
        lr = learning_rate(config, step, setup.total_steps)
        for group in moving.optimizer.param_groups:
            group["lr"] = lr
        record = train_step(setup.method, moving, accelerator, clean, targets, config, step)
        step, seen = step + 1, seen + len(clean.pixels_BCHW)
        log_now = step % config.log_every == 0 or step == setup.total_steps
        if log_now or accelerator.device.type == "cpu":
            stop_if_not_finite(record, step, folder)
        if log_now and accelerator.is_main_process:
            row = {"step": step, "lr": lr} | measure(setup, moving, accelerator, clean, targets, record)
            row |= {"images_per_s": seen * accelerator.num_processes / (time.monotonic() - since), "seconds": time.monotonic() - since}
            folder.log(row)
            progress.show(row)
            seen, since = 0, time.monotonic()
        if config.eval_every and step % config.eval_every == 0 and accelerator.is_main_process:
            from seaanchor.evaluation.zeroshot import quick_accuracy

            folder.log({"step": step, "eval": quick_accuracy(setup.model, config)})
        if step % config.save_every == 0 and step < setup.total_steps:
            _save(folder, moving, accelerator, step)
    if summary := skip_log.summary():
        print(summary, flush=True)
    return step


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


def train_step(method: Method, moving: Moving, accelerator, clean: Batch, targets: Targets, config: RunConfig, step: int) -> StepRecord:
    """One batch: perturb once, K primal steps with the multipliers detached, one dual step with the violation detached."""
    encoder = accelerator.unwrap_model(moving.policy)
    rng = torch.Generator(clean.pixels_BCHW.device).manual_seed(step_seed(config.seed, step, accelerator.process_index))
    perturbed = method.perturb(encoder, clean, targets, rng)
    for _ in range(config.primal_steps):
        terms = method.primal_terms(moving.policy, clean, perturbed, targets)
        moving.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(terms.total_B.mean())
        if config.grad_clip is not None:
            accelerator.clip_grad_norm_(moving.policy.parameters(), config.grad_clip)
        moving.optimizer.step()
    constraint = terms.anchor.constraint
    if config.anchor.exact_dual and constraint is not None:
        with torch.no_grad():
            clean_BD = encoder(clean.pixels_BCHW).float()
            constraint = method.anchor(Embeddings(clean_BD, clean_BD), targets).constraint
    dual_loss = method.dual_loss(constraint, targets)
    if dual_loss is not None and moving.dual_optimizer is not None and config.anchor.dual_lr > 0:
        moving.dual_optimizer.zero_grad(set_to_none=True)
        dual_loss.backward()
        _average_gradients(moving.dual, accelerator)
        moving.dual_optimizer.step()
    return StepRecord(terms.objective_B.detach(), constraint, terms.anchor.multiplier_B)


def _average_gradients(module: nn.Module | None, accelerator) -> None:
    """The dual is not wrapped for data parallelism (it has its own step), so its gradients are averaged by hand."""
    if module is None or accelerator.num_processes == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step's attack on one process."""
    return (seed * 1_000_003 + step) * 4_099 + rank


def learning_rate(config: RunConfig, step: int, total: int) -> float:
    """Linear warm-up, then cosine to 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    return config.lr * (1 + math.cos(math.pi * (step - config.warmup) / max(1, total - config.warmup))) / 2


def make_targets(setup: Setup, batch: Batch, cache_ND: Tensor | None) -> Targets:
    """The reference's embeddings of the batch, from the cache or in one forward, with labels and head."""
    reference_BD = setup.reference(batch.pixels_BCHW) if cache_ND is None else cache_ND[batch.index_B]
    head = setup.head
    if head is not None:
        head = replace(head, weight_CD=head.weight_CD.to(reference_BD.device))
    return Targets(reference_BD, batch.label_B, head)


def _reference_cache(setup: Setup, device: torch.device) -> Tensor | None:
    """All reference embeddings at once where each is used more than once and they fit in memory; else None."""
    count, dim = len(setup.images.paths), setup.model.encoder.dim
    visits = setup.total_steps * setup.config.batch_size / count
    if visits <= 1.5 or 4 * count * dim > CACHE_LIMIT:
        return None
    dataset = FolderDataset(setup.images, setup.model.encoder.image_size)
    stream = batches(dataset, setup.config.batch_size, workers=setup.config.workers, order=None, skip_log=SkipLog(setup.images))
    return embed_all(setup.reference, stream, count, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device."""
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    return Batch(batch.pixels_BCHW.to(device), label_B, batch.index_B.to(device))


@torch.no_grad()
def measure(setup: Setup, moving: Moving, accelerator, clean: Batch, targets: Targets, record: StepRecord) -> dict[str, float]:
    """The numbers of one log line. Clean distances are those the step saw; where the method computes none, one extra forward here."""
    row = {"adversarial_loss": record.objective_B.mean().item()}
    clean_BD = accelerator.unwrap_model(moving.policy)(clean.pixels_BCHW).float()
    relative_B = (clean_BD - targets.reference_BD).square().sum(-1) / targets.reference_BD.square().sum(-1)
    rho = setup.config.anchor.rho
    row |= {"clean_distance": relative_B.mean().item(), "cosine": F.cosine_similarity(clean_BD, targets.reference_BD).mean().item()}
    violated_B = relative_B > rho if record.constraint is None else record.constraint.violation_B > 0
    row |= {"rho": rho, "violation_rate": violated_B.float().mean().item()}
    if record.multiplier_B is not None:
        low, middle, high = record.multiplier_B.quantile(torch.tensor([0.1, 0.5, 0.9], device=record.multiplier_B.device)).tolist()
        row |= {"multiplier": record.multiplier_B.mean().item(), "multiplier_p10": low, "multiplier_p50": middle, "multiplier_p90": high}
    return row


def stop_if_not_finite(record: StepRecord, step: int, folder: RunFolder) -> None:
    """Raise at the first loss that is not finite; the last checkpoint is from before it."""
    if bool(record.objective_B.isfinite().all()):
        return
    last = folder.checkpoints()
    raise SeaAnchorError(
        f"the loss is not finite at batch {step}",
        "finite losses",
        f"lower --lr or set --grad-clip; the last good state is {last[-1] if last else 'the untrained model: no checkpoint was due yet'}",
    )


@contextmanager
def stop_on_interrupt() -> Iterator[list[bool]]:
    """Ctrl-C ends the run after the current batch, saved; a second one ends it at once."""
    interrupted = [False]

    def handler(signum: int, frame: object) -> None:
        if interrupted[0]:
            raise KeyboardInterrupt
        interrupted[0] = True
        print("\nstopping after this batch and saving; Ctrl-C again to stop at once", flush=True)

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
