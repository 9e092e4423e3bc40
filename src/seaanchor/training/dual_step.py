"""The step of the dual variables, and what takes it.

Legend: B batch, M images of a step in all processes.
"""

from collections.abc import Sequence

import torch
from torch import nn

from seaanchor.anchors.constraints import in_margins
from seaanchor.anchors.control import NuPI
from seaanchor.anchors.table import MultiplierTable
from seaanchor.config.schema import AnchorConfig
from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.encoders.kernels import adam_options
from seaanchor.method import Method
from seaanchor.training.batches import MicroBatch
from seaanchor.types import Constraint
from seaanchor.utils.parts import DUAL, part


def dual_optimizer(dual: nn.Module | None, anchor: AnchorConfig, device: torch.device) -> torch.optim.Optimizer | None:
    """What updates the weights of a dual by their gradient; None for a table, whose numbers know their own step."""
    if dual is None or isinstance(dual, MultiplierTable):
        return None
    if anchor.dual_control == "pi":
        return NuPI(dual.parameters(), anchor.dual_lr, anchor.dual_proportional, anchor.dual_smoothing)
    return torch.optim.AdamW(dual.parameters(), lr=anchor.dual_lr, weight_decay=0.0, **adam_options(device))


@part(DUAL)
def take_dual_step(
    method: Method,
    dual: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    micro_batches: Sequence[MicroBatch],
    constraints: Sequence[Constraint | None],
    weights: Sequence[float],
    anchor: AnchorConfig,
    group: ProcessGroup,
) -> None:
    """One step on the violations of all micro-batches of all processes, the same in each of them.

    Args:
        method: whose anchor has the dual.
        dual: what moves.
        optimizer: of `dual_optimizer`.
        micro_batches: of this process, or slices of them.
        constraints: of each.
        weights: of each in the mean over all images, times the number of processes.
        anchor: settings.
        group: the processes of the run.
    """
    if isinstance(dual, MultiplierTable):
        _ascend(dual, micro_batches, constraints, anchor, group)
        return
    if optimizer is None:
        return
    optimizer.zero_grad(set_to_none=True)
    for constraint, micro_batch, weight in zip(constraints, micro_batches, weights, strict=True):
        dual_loss = method.dual_loss(constraint, micro_batch.targets)
        if dual_loss is not None:
            (dual_loss * weight).backward()
    _average_gradients(dual, group)
    optimizer.step()


def _ascend(
    table: MultiplierTable,
    micro_batches: Sequence[MicroBatch],
    constraints: Sequence[Constraint | None],
    anchor: AnchorConfig,
    group: ProcessGroup,
) -> None:
    """Every process hears of the images of all others, so that the tables stay the same. Padding says nothing."""
    device = table.multiplier_N.device
    index, violation = [torch.empty(0, dtype=torch.long)], [torch.empty(0)]
    for micro_batch, constraint in zip(micro_batches, constraints, strict=True):
        if constraint is not None and not micro_batch.is_padding:
            index.append(micro_batch.batch.index_B)
            violation.append(in_margins(constraint).violation_B.detach())
    seen = torch.cat([i.to(device) for i in index]), torch.cat([v.to(device) for v in violation])
    if group.world > 1:
        of_all = group.exchange((seen[0].cpu(), seen[1].cpu()))
        seen = torch.cat([i for i, _ in of_all]).to(device), torch.cat([v for _, v in of_all]).to(device)
    table.ascend(*seen, anchor.dual_lr, anchor.dual_proportional, anchor.dual_smoothing)


def _average_gradients(dual: nn.Module, group: ProcessGroup) -> None:
    """The dual has its own step outside DistributedDataParallel, so its gradients are averaged here."""
    if group.world == 1:
        return
    for parameter in dual.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= group.world
