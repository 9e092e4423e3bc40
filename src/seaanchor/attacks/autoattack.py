"""AutoAttack's standard version (Croce & Hein 2020): APGD-CE, targeted APGD-DLR, FAB and Square, each on what the
former left standing.

Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult, Logits, broken
from seaanchor.attacks.square import NORMS, judged, kept_random_state, labels, pyautoattack, square_attack
from seaanchor.functional.gradients import pixels_alone
from seaanchor.types import Batch

FEWEST_TARGETED = 4  # classes; the targeted DLR loss compares the third and fourth largest logits


def autoattack_standard(
    logits: Logits,
    batch: Batch,
    ball: Ball,
    seed: int = 0,
    *,
    num_steps: int = 100,
    num_queries: int = 5000,
    num_targets: int = 9,
) -> AttackResult:
    """Attack a classifier; fooled are the images misclassified clean or after any of the four attacks.

    FAB and Square are those of `pyautoattack`. Both stages of APGD are ours: from the same starts they fool the same
    images as the package's, which draws its starts per batch, while here each image's start depends on the seed and its
    number. FAB draws nothing in the standard version, and Square draws as `square_attack` says. So batch size changes
    nothing. An image that is not fooled comes back as APGD-CE left it.

    Args:
        logits: pixels → (B, C) in fp32.
        batch: labelled images in [0, 1].
        ball: norm and radius.
        seed: of the random starts and squares.
        num_steps: of both APGD stages and of FAB.
        num_queries: of Square.
        num_targets: wrong classes that APGD and FAB aim at, at most C − 1. With fewer than four classes there is no
            targeted APGD, and FAB looks at all classes at once instead of aiming.

    Raises:
        SeaAnchorError: the extra `attacks` is missing, or an image came back outside its ball or [0, 1].
    """
    pyautoattack()
    with torch.no_grad():
        clean_BC = logits(batch.pixels_BCHW)
    result_BCHW, broken_B = batch.pixels_BCHW.clone(), torch.zeros_like(batch.index_B, dtype=torch.bool)
    fooled_B, num_classes = clean_BC.argmax(-1) != labels(batch), clean_BC.shape[-1]

    def by_apgd(name: str, attack: Callable[..., AttackResult], left: Batch, **settings: int) -> AttackResult:
        settings |= {"num_steps": num_steps, "seed": seed}
        result = attack(logits, left.pixels_BCHW, labels(left), ball, index_B=left.index_B, **settings)
        return replace(judged(logits, result.pixels_BCHW, left, ball, name), broken_B=result.broken_B)

    stages: dict[str, Callable[[Batch], AttackResult]] = {
        "APGD-CE": partial(by_apgd, "APGD-CE", apgd_ce),
        "APGD-T": partial(by_apgd, "APGD-T", apgd_targeted, num_targets=num_targets),
        "FAB": lambda left: fab_attack(logits, left, ball, num_classes, num_steps=num_steps, num_targets=num_targets),
        "Square": lambda left: square_attack(logits, left, ball, num_queries, seed, rescale=False),
    }
    if num_classes < FEWEST_TARGETED:
        del stages["APGD-T"]
    for name, stage in stages.items():
        rows = (~fooled_B).nonzero().squeeze(1)
        if len(rows):
            found = stage(Batch(batch.pixels_BCHW[rows], labels(batch)[rows], batch.index_B[rows]))
            taken_B = found.fooled_B | (name == "APGD-CE")
            result_BCHW[rows[taken_B]] = found.pixels_BCHW[taken_B]
            fooled_B[rows] = found.fooled_B
            broken_B[rows] |= broken(found)
    return AttackResult(result_BCHW, fooled_B, broken_B)


def fab_attack(
    logits: Logits, batch: Batch, ball: Ball, num_classes: int, *, num_steps: int = 100, num_targets: int = 9
) -> AttackResult:
    """Attack a classifier by FAB (Croce & Hein 2020b, `pyautoattack`); without restarts, so without any random draw.

    The package calls `.backward()`; the weights' `.grad` stay as they are all the same. It aims at all classes but the
    last one in the order of the logits: where a class ties with the label, that one is put last here, not the other.
    """
    device = batch.pixels_BCHW.device
    attack = pyautoattack().fab_pt.FABAttack_PT(
        pixels_alone(logits),
        norm=NORMS[ball.norm],
        n_restarts=1,
        n_iter=num_steps,
        eps=ball.epsilon,
        seed=0,
        device=device,
        targeted=num_classes >= FEWEST_TARGETED,
        n_target_classes=min(num_targets, num_classes - 1),
    )
    attack._predict_fn = partial(_answer_on_top, logits)
    with kept_random_state(device):
        return judged(logits, attack.perturb(batch.pixels_BCHW, labels(batch)), batch, ball, "FAB")


@torch.no_grad()
def _answer_on_top(logits: Logits, pixels_BCHW: Tensor) -> Tensor:
    """The logits, that of the answer infinite. FAB looks at images that are answered right and at the order alone."""
    output_BC = logits(pixels_BCHW)
    return output_BC.scatter(1, output_BC.argmax(1, keepdim=True), float("inf"))
