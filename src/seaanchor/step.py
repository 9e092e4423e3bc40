"""One step of training: perturb, K primal updates, one dual update; and its learning rate.

Legend: B batch, D embedding dimension.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seaanchor.averaging import WeightAverage
from seaanchor.config import RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.method import Encode, Method
from seaanchor.parts import Batch, Embeddings, Targets
from seaanchor.runs import RunFolder
from seaanchor.tracking import StepRecord


@dataclass(frozen=True)
class Moving:
    """Everything the loop changes: the wrapped policy and dual with their optimizers."""

    policy: nn.Module
    optimizer: torch.optim.Optimizer
    dual: nn.Module | None
    dual_optimizer: torch.optim.Optimizer | None
    average: WeightAverage | None = None


def train_step(
    method: Method, moving: Moving, accelerator, clean: Batch, targets: Targets, config: RunConfig, step: int, reference: Encode | None = None
) -> StepRecord:
    """One batch: perturb once, K primal steps with the multipliers detached, one dual step with the violation detached.

    All randomness, the attack's and that of layers such as dropout, is a function of seed, step and process: resuming needs no state.
    """
    encoder = accelerator.unwrap_model(moving.policy)
    seed = step_seed(config.seed, step, accelerator.process_index)
    torch.manual_seed(seed)
    perturbed = method.perturb(encoder, clean, targets, torch.Generator(clean.pixels_BCHW.device).manual_seed(seed))
    targets = method.complete(targets, perturbed, reference)
    encode = training_forward(moving.policy, config.precision)
    for _ in range(config.primal_steps):
        terms = method.primal_terms(encode, clean, perturbed, targets, encoder)
        moving.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(terms.total_B.mean())
        if config.grad_clip is not None:
            accelerator.clip_grad_norm_(moving.policy.parameters(), config.grad_clip)
        moving.optimizer.step()
    constraint = terms.anchor.constraint
    if config.anchor.exact_dual and constraint is not None:
        with torch.no_grad():
            clean_BD = encoder(clean.pixels_BCHW).float()
            head = method.adapter.head(encoder, targets.head)
            constraint = method.anchor(Embeddings(clean_BD, clean_BD, head), targets).constraint
    dual_loss = method.dual_loss(constraint, targets)
    if dual_loss is not None and moving.dual_optimizer is not None and config.anchor.dual_lr > 0:
        moving.dual_optimizer.zero_grad(set_to_none=True)
        dual_loss.backward()
        _average_gradients(moving.dual, accelerator)
        moving.dual_optimizer.step()
    if moving.average is not None:
        moving.average.update()
    return StepRecord(terms.objective_B.detach(), constraint, terms.anchor.multiplier_B)


def training_forward(policy: nn.Module, precision: str) -> Encode:
    """The policy as the primal steps call it, in bf16 where asked for; everything else calls the encoder itself, in fp32."""

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
    """Seed of one step's attack on one process."""
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
    """Raise, in all processes, if any tensor of any of them is not finite; whatever was saved before is from before it."""
    finite = all(bool(tensor.isfinite().all()) for tensor in tensors)
    if accelerator.num_processes > 1:
        finite = accelerator.reduce(torch.tensor(float(finite), device=accelerator.device), "sum").item() == accelerator.num_processes
    if finite:
        return
    last = folder.checkpoints()
    raise SeaAnchorError(
        f"the loss or the weights are not finite at batch {step}",
        "finite numbers",
        f"lower --lr or set --grad-clip; the last good state is {last[-1] if last else 'the untrained model: no checkpoint was due yet'}",
    )
