"""Projected gradient descent (Madry et al. 2018).

Legend: B batch, C channels or classes, H W pixels.
"""

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult, Logits, misclassified, noise_per_image, not_finite
from seaanchor.functional.cross_entropy import attack_cross_entropy
from seaanchor.functional.gradients import input_grad
from seaanchor.types import AttackLoss
from seaanchor.utils.stages import tick

DEFAULT_STEP = 0.25  # of epsilon (LORE, App. B; with 10 steps Madry's 2.5 epsilon / steps)


def pgd(
    loss: AttackLoss,
    clean_BCHW: Tensor,
    start_BCHW: Tensor,
    ball: Ball,
    *,
    num_steps: int = 10,
    step_size: float | None = None,
    momentum: float = 0.0,
) -> Tensor:
    """Raise any per-sample loss: exactly `num_steps` gradients, and the last iterate (B, C, H, W) is the result.

    Args:
        loss: pixels → (loss of each image (B,), output).
        clean_BCHW: centres of the balls, in [0, 1].
        start_BCHW: where to start, in the balls.
        ball: norm and radius.
        num_steps: gradient steps.
        step_size: in pixel units; a quarter of epsilon by default.
        momentum: of the steps' directions (FARE's public code: 0.9; 0 is plain PGD).

    >>> clean = torch.full((1, 1, 1, 1), 0.5)
    >>> round(pgd(lambda x: (x.sum((1, 2, 3)), x), clean, clean, Ball("linf", 0.1)).item(), 4)
    0.6
    """
    step_size = DEFAULT_STEP * ball.epsilon if step_size is None else step_size
    pixels_BCHW, velocity_BCHW, project = start_BCHW, torch.zeros_like(clean_BCHW), ball.projection(clean_BCHW)
    for _ in range(num_steps):
        tick("steps")
        _, grad_BCHW, _ = input_grad(loss, pixels_BCHW)
        velocity_BCHW.mul_(momentum).add_(ball.ascent_direction(grad_BCHW))
        pixels_BCHW = project(pixels_BCHW.add(ball.ascent_direction(velocity_BCHW), alpha=step_size))
    return pixels_BCHW


def pgd_attack(
    logits: Logits,
    pixels_BCHW: Tensor,
    label_B: Tensor,
    ball: Ball,
    *,
    num_steps: int = 10,
    step_size: float | None = None,
    index_B: Tensor,
    seed: int = 0,
    follow: Logits | None = None,
) -> AttackResult:
    """Attack a classifier by PGD on its cross-entropy; an image is retired as soon as it is fooled.

    Args:
        logits: pixels → (B, C) in fp32.
        pixels_BCHW: clean images in [0, 1].
        label_B: their classes.
        ball: norm and radius.
        num_steps, step_size: as for `PGD`.
        index_B: each image's number in its data set, which its random start depends on.
        seed: of the random starts.
        follow: logits in low precision whose gradients the attack follows. Whether an image is fooled, `logits`
            decides.
    """
    ball.check_fits(pixels_BCHW.shape[1:])
    seen, fooled = follow or logits, misclassified(label_B, logits if follow else None)
    step_size = DEFAULT_STEP * ball.epsilon if step_size is None else step_size
    result_BCHW = ball.project(pixels_BCHW + ball.epsilon * _unit_noise(index_B, seed, ball, pixels_BCHW), pixels_BCHW)
    fooled_B, broken_B = torch.zeros(2, len(label_B), dtype=torch.bool, device=label_B.device)
    rows = torch.arange(len(label_B), device=label_B.device)
    for step in range(num_steps + 1):
        if len(rows) == 0:
            break
        tick("steps")
        label, current = label_B[rows], result_BCHW[rows]
        if step == num_steps:  # the last iterate is only looked at
            with torch.no_grad():
                output = seen(current)
        else:
            _, grad, output = input_grad(cross_entropy_of(seen, label), current)
            broken_B[rows] |= not_finite(grad)
        wrong = fooled(output, rows, current)
        fooled_B[rows[wrong]] = True
        if step < num_steps:
            clean = pixels_BCHW[rows]
            result_BCHW[rows[~wrong]] = ball.project(current + step_size * ball.ascent_direction(grad), clean)[~wrong]
        rows = rows[~wrong]
    return AttackResult(result_BCHW, fooled_B, broken_B)


def _unit_noise(index_B: Tensor, seed: int, ball: Ball, like_BCHW: Tensor) -> Tensor:
    noise_BCHW = noise_per_image(index_B, seed, ball, like_BCHW)
    return noise_BCHW if ball.norm == "linf" else ball.ascent_direction(noise_BCHW)


def cross_entropy_of(logits: Logits, label_B: Tensor) -> AttackLoss:
    """What an attack on a classifier raises: pixels → (cross-entropy of each image (B,), logits)."""

    def loss(pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        output_BC = logits(pixels_BCHW)
        return attack_cross_entropy(output_BC, label_B), output_BC

    return loss
