"""What every attack on a classifier shares: its result, and random starts that belong to the image and not to its batch.

Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seaanchor.perturbations.ball import Ball

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AttackResult:
    """Perturbed images (B, C, H, W), and which of them are misclassified (B,), judged in the precision of the logits handed in."""

    pixels_BCHW: Tensor
    fooled_B: Tensor


def noise_per_image(index_B: Tensor, seed: int, ball: Ball, like_BCHW: Tensor) -> Tensor:
    """Uniform in [-1, 1] (l-inf) or normal (l2) noise that depends on (seed, image) alone: batch size and order change nothing."""
    shape = like_BCHW.shape[1:]
    draws = []
    for index in index_B.tolist():
        rng = torch.Generator().manual_seed((seed * 1_000_003 + index) * 2_654_435_761 % 2**63)
        draws.append(2 * torch.rand(shape, generator=rng) - 1 if ball.norm == "linf" else torch.randn(shape, generator=rng))
    return torch.stack(draws).to(like_BCHW)
