"""What every attack on a classifier shares: its result, and random starts that belong to the image and not to its
batch.

Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball

Logits = Callable[[Tensor], Tensor]
Precision = Literal["fp32", "bf16"]
Fooled = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(output of the images still attacked, their rows in the batch, their pixels) → which of them are done."""
DOUBT = 1 / 64  # of the spread of an image's logits; five times the largest error of bf16 seen on the embedded models


@dataclass(frozen=True)
class Classifier:
    """Pixels (B, C, H, W) → logits (B, C). Called, it gives those in fp32, which judge; `low`, where there is one,
    gives them in low precision: an attack may follow its gradients and never takes its word."""

    judge: Logits
    low: Logits | None = None

    def __call__(self, pixels_BCHW: Tensor) -> Tensor:
        """Logits (B, C) in fp32."""
        return self.judge(pixels_BCHW)


@dataclass(frozen=True)
class AttackResult:
    """Perturbed images (B, C, H, W), and which of them are misclassified (B,), judged in the precision of the logits
    handed in; and whose gradient was NaN or infinite at some step (B,), None where none is followed: the sign of NaN
    is 0, so that an attack would stand still unseen."""

    pixels_BCHW: Tensor
    fooled_B: Tensor
    broken_B: Tensor | None = None


def misclassified(label_B: Tensor, judge: Logits | None = None) -> Fooled:
    """What is done in an attack on a classifier with these labels.

    Args:
        label_B: of the whole batch.
        judge: logits in fp32, where the attack itself sees others. Images whose label wins by less than `DOUBT` there,
            or loses, are looked at by it, and its word counts.
    """
    if judge is None:
        return lambda output_BC, row, pixels_BCHW: output_BC.argmax(-1) != label_B[row]

    @torch.no_grad()
    def done(output_BC: Tensor, row: Tensor, pixels_BCHW: Tensor) -> Tensor:
        label = label_B[row]
        in_doubt = (margin(output_BC, label) <= DOUBT * (output_BC.amax(-1) - output_BC.amin(-1))).nonzero().squeeze(1)
        done_B = torch.zeros_like(label, dtype=torch.bool)
        if len(in_doubt):
            done_B[in_doubt] = judge(pixels_BCHW[in_doubt]).argmax(-1) != label[in_doubt]
        return done_B

    return done


def broken(result: AttackResult) -> Tensor:
    """Whose gradient (B,) was NaN or infinite; of nobody where none was followed."""
    return torch.zeros_like(result.fooled_B) if result.broken_B is None else result.broken_B


def not_finite(grad_BCHW: Tensor) -> Tensor:
    """Whose gradient (B,) is NaN or infinite somewhere."""
    return ~grad_BCHW.isfinite().flatten(1).all(1)


def margin(logits_BC: Tensor, label_B: Tensor) -> Tensor:
    """By how much (B,) the label's logit is above the largest other one; negative where the image is misclassified."""
    top_B2 = logits_BC.topk(2, dim=-1)
    other_B = torch.where(top_B2.indices[:, 0] == label_B, top_B2.values[:, 1], top_B2.values[:, 0])
    return logits_BC.gather(1, label_B[:, None]).squeeze(1) - other_B


def noise_per_image(index_B: Tensor, seed: int, ball: Ball, like_BCHW: Tensor) -> Tensor:
    """Uniform in [-1, 1] (l-inf) or normal (l2) noise that depends on (seed, image) alone: batch size and order change
    nothing."""
    shape = like_BCHW.shape[1:]
    draws = []
    for index in index_B.tolist():
        rng = torch.Generator().manual_seed((seed * 1_000_003 + index) * 2_654_435_761 % 2**63)
        draws.append(
            2 * torch.rand(shape, generator=rng) - 1 if ball.norm == "linf" else torch.randn(shape, generator=rng)
        )
    return torch.stack(draws).to(like_BCHW)
