"""Dual variables: a non-negative multiplier λ(x) for every sample, as a function of its reference embedding.

Legend: B batch, D embedding dimension.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DualKind = Literal["network", "linear", "scalar"]


class _AtMost(torch.autograd.Function):
    """min(value, maximum), a bound in the sense of projected ascent: above it, a gradient that would raise the value
    further is dropped, and one that lowers it passes. Plain clamping drops both, and a multiplier that once reached its
    maximum stays there."""

    @staticmethod
    def forward(ctx: Any, value_B: Tensor, maximum: float) -> Tensor:
        ctx.save_for_backward(value_B > maximum)
        return value_B.clamp(max=maximum)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (above_B,), (grad_B,) = ctx.saved_tensors, grad_outputs
        return grad_B.masked_fill(above_B & (grad_B < 0), 0.0), None  # descent raises where the gradient is negative


class Dual(nn.Module):
    """λ_ω(x) = Softplus(f_ω(φ_0(x))), with f a two-layer network, a linear map, or one number.

    Args:
        kind: `network` (LORE's), `linear` or `scalar` (its ablations).
        dim: D of the reference embeddings.
        hidden: width of the network's hidden layer.
        initial: λ that every sample starts from; the output layer starts at zero weight so that this is exact.
        maximum: λ is clamped to at most this; None leaves it free.
    """

    def __init__(
        self, kind: DualKind, dim: int, *, hidden: int = 512, initial: float = 1.0, maximum: float | None = None
    ) -> None:
        super().__init__()
        self.maximum = maximum
        self.hidden = nn.Linear(dim, hidden) if kind == "network" else None
        self.weight = nn.Parameter(torch.zeros(hidden if kind == "network" else dim)) if kind != "scalar" else None
        self.bias = nn.Parameter(
            torch.tensor(initial + math.log(-math.expm1(-initial)))
        )  # inverse softplus that cannot overflow

    def forward(self, reference_BD: Tensor) -> Tensor:
        """Multipliers (B,) in [0, maximum]; inputs are scaled to unit norm so that the dual's step does not depend on
        the tower. Of tokens (B, T, D) the mean over an image's tokens is read."""
        if reference_BD.dim() == 3:
            reference_BD = reference_BD.mean(1)
        unit_BD = F.normalize(reference_BD.float(), dim=-1) * math.sqrt(reference_BD.shape[-1])
        score_B = self.bias.expand(len(reference_BD))
        if self.weight is not None:
            features = F.relu(self.hidden(unit_BD)) if self.hidden is not None else unit_BD
            score_B = score_B + features @ self.weight
        multiplier_B = F.softplus(score_B)
        return multiplier_B if self.maximum is None else _AtMost.apply(multiplier_B, self.maximum)
