"""One step of training: perturb, K primal updates, one dual update; and its learning rate.

Legend: B batch, D embedding dimension.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from seaanchor.config.schema import RunConfig
from seaanchor.encoders.kernels import activation_checkpointing, computes_in_bf16, fast_kernels, num_tokens
from seaanchor.encoders.low_precision import LowPrecisionCopy
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Encode, Method
from seaanchor.training.averaging import WeightAverage
from seaanchor.training.loggers import StepRecord
from seaanchor.training.run_folder import RunFolder
from seaanchor.types import Batch, Constraint, Embeddings, LossTerms, Targets


@dataclass(frozen=True)
class Moving:
    """Everything the loop changes: the wrapped policy and dual with their optimizers; the low-precision copy that
    attacks look at, and the average that an anchor holds the policy to, if there are any."""

    policy: nn.Module
    optimizer: torch.optim.Optimizer
    dual: nn.Module | None
    dual_optimizer: torch.optim.Optimizer | None
    average: WeightAverage | None = None
    shadow: LowPrecisionCopy | None = None
    moving_reference: WeightAverage | None = None


@dataclass(frozen=True)
class Part:
    """Images that a process takes at once, with their targets; what does not count takes part in every pass and changes
    nothing."""

    clean: Batch
    targets: Targets
    counts: bool = True


def train_step(
    method: Method,
    moving: Moving,
    accelerator,
    clean: Batch,
    targets: Targets,
    config: RunConfig,
    step: int,
    reference: Encode | None = None,
) -> StepRecord:
    """`whole_step` of a batch that every process takes at once, all with as many images."""
    return whole_step(method, moving, accelerator, [Part(clean, targets)], config, step, reference)


def whole_step(
    method: Method,
    moving: Moving,
    accelerator,
    parts: Sequence[Part],
    config: RunConfig,
    step: int,
    reference: Encode | None = None,
    together: float = 0,
) -> StepRecord:
    """One batch: perturb once, K primal steps with the multipliers detached, one dual step with the violation detached.

    The batch may be in parts, and on several processes. All parts are perturbed at the weights from before the batch,
    each of the K updates takes the
    gradient of the mean over all of them, and so does the dual step: it is the step of one process that had room for
    the batch. The attack's
    randomness is a function of seed, step and image, that of layers such as dropout of seed, step and process: resuming
    needs no state.

    Args:
        together: images that count, of all parts of all processes; by default, as many on each process.
    """
    encoder = accelerator.unwrap_model(moving.policy)
    together = together or accelerator.num_processes * sum(len(part.clean.index_B) for part in parts if part.counts)
    shares = [
        part.counts * accelerator.num_processes * len(part.clean.index_B) / together for part in parts
    ]  # gradients are averaged over processes
    torch.manual_seed(step_seed(config.seed, step, accelerator.process_index))
    under_attack, tokens = encoder if moving.shadow is None else moving.shadow.refreshed(), num_tokens(encoder)
    with fast_kernels(under_attack, torch.float32 if moving.shadow is None else moving.shadow.dtype, tokens):
        attacked = [_attacked(method, under_attack, part, step_seed(config.seed, step, 0), reference) for part in parts]
    if moving.moving_reference is not None:
        attacked = _held_to_average(encoder, moving.moving_reference, parts, attacked)
    encode = training_forward(moving.policy, config.precision)
    for _ in range(config.primal_steps):
        seen: list[LossTerms] = []
        moving.optimizer.zero_grad(set_to_none=True)
        for part, (perturbed, targets), share in zip(parts, attacked, shares, strict=True):
            waits = len(seen) + 1 < len(parts)
            with (
                accelerator.no_sync(moving.policy) if waits else nullcontext(),
                _training_kernels(encoder, config, tokens),
            ):
                terms = method.primal_terms(encode, part.clean, perturbed, targets, encoder)
                accelerator.backward(terms.total_B.mean() * share)
            seen.append(_detached(terms))
        if config.grad_clip is not None:
            accelerator.clip_grad_norm_(moving.policy.parameters(), config.grad_clip)
        moving.optimizer.step()
    completed, constraints = [targets for _, targets in attacked], [terms.anchor.constraint for terms in seen]
    if config.anchor.exact_dual and constraints[0] is not None:
        constraints = [
            _constraint_now(method, encoder, part.clean, targets)
            for part, targets in zip(parts, completed, strict=True)
        ]
    if config.anchor.dual_lr > 0:
        _dual_step(method, moving, accelerator, constraints, completed, shares)
    for average in (moving.average, moving.moving_reference):
        if average is not None:
            average.update()
    return _record(parts, seen, constraints)


def _dual_step(
    method: Method,
    moving: Moving,
    accelerator,
    constraints: Sequence[Constraint | None],
    completed: Sequence[Targets],
    shares: Sequence[float],
) -> None:
    """One step of the dual variables, if there are any, on the violations of all parts of all processes."""
    if moving.dual is None or moving.dual_optimizer is None:
        return
    moving.dual_optimizer.zero_grad(set_to_none=True)
    for constraint, targets, share in zip(constraints, completed, shares, strict=True):
        dual_loss = method.dual_loss(constraint, targets)
        if dual_loss is not None:
            (dual_loss * share).backward()
    _average_gradients(moving.dual, accelerator)
    moving.dual_optimizer.step()


def _attacked(
    method: Method, encoder: nn.Module, part: Part, seed: int, reference: Encode | None
) -> tuple[Batch, Targets]:
    """The hard inputs of one part, and its targets with what they tell; parts share a generator's state, as each image
    draws for itself."""
    perturbed = method.perturb(encoder, part.clean, part.targets, torch.Generator().manual_seed(seed))
    return perturbed, method.complete(part.targets, perturbed, reference)


@torch.no_grad()
def _held_to_average(
    encoder: nn.Module, average: WeightAverage, parts: Sequence[Part], attacked: Sequence[tuple[Batch, Targets]]
) -> list[tuple[Batch, Targets]]:
    """The same, with the clean images' embeddings under the averaged weights as what the anchor holds them to."""
    encoder.eval()
    with average.swapped():
        held = [encoder(part.clean.pixels_BCHW).float() for part in parts]
    encoder.train()
    return [
        (perturbed, replace(targets, anchor_BD=held_BD))
        for (perturbed, targets), held_BD in zip(attacked, held, strict=True)
    ]


def _detached(terms: LossTerms) -> LossTerms:
    """What the log and the dual step read; its graph is let go before the next part's is built."""
    constraint = terms.anchor.constraint
    if constraint is not None:
        constraint = Constraint(constraint.distance_B.detach(), constraint.bound_B)
    adapter = None if terms.adapter is None else terms.adapter.detach()
    return LossTerms(
        terms.objective_B.detach(),
        replace(terms.anchor, loss_B=terms.anchor.loss_B.detach(), constraint=constraint),
        adapter,
    )


@torch.no_grad()
def _constraint_now(method: Method, encoder: nn.Module, clean: Batch, targets: Targets) -> Constraint | None:
    """The constraint at the weights after the updates."""
    clean_BD = encoder(clean.pixels_BCHW).float()
    head = method.adapter.head(encoder, targets.head)
    return method.anchor(Embeddings(clean_BD, clean_BD, head), targets).constraint


def _record(parts: Sequence[Part], seen: Sequence[LossTerms], constraints: Sequence[Constraint | None]) -> StepRecord:
    """What the parts that count leave for the log."""
    counting = [i for i, part in enumerate(parts) if part.counts]
    distances, bounds, multipliers = [], [], []
    for i in counting:
        constraint, multiplier_B = constraints[i], seen[i].anchor.multiplier_B
        if constraint is not None:
            distances.append(constraint.distance_B)
            bounds.append(constraint.bound_B)
        if multiplier_B is not None:
            multipliers.append(multiplier_B)
    objective_B = torch.cat([seen[i].objective_B for i in counting] or [seen[0].objective_B[:0]])
    constraint = Constraint(torch.cat(distances), torch.cat(bounds)) if distances else None
    adapter = seen[0].adapter  # of the weights, whatever the images
    return StepRecord(
        objective_B,
        constraint,
        torch.cat(multipliers) if multipliers else None,
        None if adapter is None else adapter.reshape(1),
    )


@contextmanager
def _training_kernels(encoder: nn.Module, config: RunConfig, tokens: int) -> Iterator[None]:
    """Around a forward and its backward, which may compute the forward again and must then find the same kernels."""
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    with (
        fast_kernels(encoder, dtype, tokens),
        activation_checkpointing(encoder) if config.checkpoint_activations else nullcontext(),
    ):
        yield


def runnable(config: RunConfig, device: torch.device) -> RunConfig:
    """The settings as a device runs them: updates in fp32 in place of bf16 where it would only imitate that."""
    return config if config.precision == "fp32" or computes_in_bf16(device.type) else replace(config, precision="fp32")


def training_forward(policy: nn.Module, precision: str) -> Encode:
    """The policy as the primal steps call it, in bf16 where asked for; everything but an attack in bf16 calls the
    encoder itself, in fp32."""

    def encode(pixels_BCHW: Tensor) -> Tensor:
        with torch.autocast(pixels_BCHW.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return policy(pixels_BCHW)

    return encode


def _average_gradients(module: nn.Module | None, accelerator) -> None:
    """The dual is not wrapped for data parallelism (it has its own step), so its gradients are averaged by hand."""
    if module is None or accelerator.num_processes == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of one step on one process."""
    return (seed * 1_000_003 + step) * 4_099 + rank


def learning_rate(config: RunConfig, step: int, total: int) -> float:
    """Linear warm-up, then cosine to 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    return config.lr * (1 + math.cos(math.pi * (step - config.warmup) / max(1, total - config.warmup))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, config: RunConfig, step: int, total: int) -> float:
    """Set this step's learning rate, which holds for all its K updates, and return it."""
    lr = learning_rate(config, step, total)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def stop_if_not_finite(tensors: Iterable[Tensor], step: int, folder: RunFolder, accelerator) -> None:
    """Raise, in all processes, if any tensor of any of them is not finite; whatever was saved before is from before
    it."""
    finite = all(bool(tensor.isfinite().all()) for tensor in tensors)
    if accelerator.num_processes > 1:
        finite = (
            accelerator.reduce(torch.tensor(float(finite), device=accelerator.device), "sum").item()
            == accelerator.num_processes
        )
    if finite:
        return
    last = folder.checkpoints()
    raise SeaAnchorError(
        f"the loss or the weights are not finite at batch {step}",
        "finite numbers",
        "lower --lr or set --grad-clip; the last good state is "
        f"{last[-1] if last else 'the untrained model: no checkpoint was due yet'}",
    )
