"""APGD on a classifier: its cross-entropy, and the targeted difference of logits (Croce & Hein 2020).

Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from seaanchor.attacks.apgd import apgd
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult, Logits, broken, misclassified, noise_per_image
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.cross_entropy import attack_cross_entropy, attack_scale


def apgd_ce(
    logits: Logits,
    pixels_BCHW: Tensor,
    label_B: Tensor,
    ball: Ball,
    *,
    num_steps: int = 100,
    index_B: Tensor,
    seed: int = 0,
    start_BCHW: Tensor | None = None,
    retire: bool = True,
    follow: Logits | None = None,
) -> AttackResult:
    """APGD on the cross-entropy.

    Args:
        logits: pixels → (B, C) in fp32.
        pixels_BCHW: clean images in [0, 1].
        label_B: their classes.
        ball: norm and radius.
        num_steps: gradient steps.
        index_B: each image's number in its data set, which its random start depends on.
        seed: of the random starts.
        start_BCHW: start here instead.
        retire: stop at the first fooling image instead of looking for the highest loss.
        follow: logits in low precision whose loss and gradients the attack follows. Whether an image is fooled,
            `logits` decides.
    """
    start_BCHW = _start(pixels_BCHW, ball, index_B, seed) if start_BCHW is None else start_BCHW

    factor_B = None

    def loss(p: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal factor_B
        output = (follow or logits)(p)
        if factor_B is None:  # at the start, where all images are looked at: losses of one image are compared later
            factor_B = attack_scale(output)
        return attack_cross_entropy(output, label_B[row], factor_B[row]), output

    fooled = misclassified(label_B, logits if follow else None)
    result = apgd(loss, pixels_BCHW, start_BCHW, ball, num_steps, fooled if retire else None)
    return result if retire else _judge(result, logits, label_B)


def apgd_targeted(
    logits: Logits,
    pixels_BCHW: Tensor,
    label_B: Tensor,
    ball: Ball,
    *,
    num_steps: int = 100,
    index_B: Tensor,
    seed: int = 0,
    num_targets: int = 9,
    starts: Callable[[int, Tensor], Tensor] | None = None,
    follow: Logits | None = None,
) -> AttackResult:
    """APGD on the targeted difference-of-logits ratio, towards each of the `num_targets` likeliest wrong classes in
    turn.

    Args:
        logits, pixels_BCHW, label_B, ball, num_steps, index_B, seed, follow: as for `apgd_ce`.
        num_targets: at most C − 1 are used.
        starts: (target number from 0, rows) → start images; random by default.

    Raises:
        SeaAnchorError: fewer than four classes, where the ratio is not defined.
    """
    with torch.no_grad():
        clean_BC = logits(pixels_BCHW)
    num_classes = clean_BC.shape[-1]
    if num_classes < 4:
        raise SeaAnchorError(f"{num_classes} classes", "at least 4 for the targeted DLR loss", "use apgd_ce")
    others_BY = wrong_classes(clean_BC, label_B)
    result_BCHW, fooled_B = pixels_BCHW.clone(), clean_BC.argmax(-1) != label_B
    broken_B = torch.zeros_like(fooled_B)
    for target in range(min(num_targets, num_classes - 1)):
        rows = (~fooled_B).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        label, aim = label_B[rows], others_BY[rows, target]
        start = (
            starts(target, rows)
            if starts
            else _start(pixels_BCHW[rows], ball, index_B[rows], seed + 7919 * (target + 1))
        )

        def loss(p: Tensor, row: Tensor, label: Tensor = label, aim: Tensor = aim) -> tuple[Tensor, Tensor]:
            output = (follow or logits)(p)
            return dlr_targeted(output, label[row], aim[row]), output

        result = apgd(loss, pixels_BCHW[rows], start, ball, num_steps, misclassified(label, logits if follow else None))
        result_BCHW[rows], fooled_B[rows] = result.pixels_BCHW, result.fooled_B
        broken_B[rows] |= broken(result)
    return AttackResult(result_BCHW, fooled_B, broken_B)


def dlr_targeted(logits_BC: Tensor, label_B: Tensor, target_B: Tensor) -> Tensor:
    """−(z_y − z_t) / (z_π1 − (z_π3 + z_π4)/2), (B,): invariant to shift and scale of the logits (Croce & Hein 2020, eq.
    7)."""
    rows = torch.arange(len(label_B), device=label_B.device)
    top_B4 = logits_BC.topk(4, dim=-1).values
    scale_B = top_B4[:, 0] - (top_B4[:, 2] + top_B4[:, 3]) / 2
    return -(logits_BC[rows, label_B] - logits_BC[rows, target_B]) / (scale_B + 1e-12)


def wrong_classes(logits_BC: Tensor, label_B: Tensor) -> Tensor:
    """All classes but the label (B, C − 1), the likeliest first. The label is left out by its number: where another
    class ties with it, its place in the order is chance.

    >>> wrong_classes(torch.tensor([[1.0, 1.0, 3.0]]), torch.tensor([1])).tolist()
    [[2, 0]]
    """
    order_BC = logits_BC.argsort(dim=1, descending=True)
    return order_BC[order_BC != label_B[:, None]].view(len(label_B), logits_BC.shape[1] - 1)


def _start(pixels_BCHW: Tensor, ball: Ball, index_B: Tensor, seed: int) -> Tensor:
    return pixels_BCHW + ball.spread(noise_per_image(index_B, seed, ball, pixels_BCHW))


@torch.no_grad()
def _judge(result: AttackResult, logits: Logits, label_B: Tensor) -> AttackResult:
    return replace(result, fooled_B=logits(result.pixels_BCHW).argmax(-1) != label_B)
