"""An adaptive attacker with two means: the worst of several drawn words, then noise on the lettered image.

Legend: B batch, C classes, V words tried.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seaanchor.attacks.classification import Logits
from seaanchor.evaluation.attacks import AttackPlan, attack_all
from seaanchor.evaluation.rows import Table
from seaanchor.evaluation.suites.typographic import TypographicPlan
from seaanchor.types import Batch

WORDS_TRIED = 3


def words_and_noise(
    logits: Logits, batch: Batch, class_names: Sequence[str], letters: TypographicPlan, plans: Sequence[AttackPlan]
) -> Table:
    """Which images (B,) are classified correctly with the worst of `WORDS_TRIED` drawn words on them (`word`), and
    still after each attack on that lettered image (`ATTACK RADIUS`); and whose attacked versions were legal (`ATTACK
    RADIUS sound`).

    The attacker knows the model: he draws several words, each at its own place, keeps the one with the smallest margin
    of the true class, and searches the ball around that picture.
    """
    if batch.label_B is None:
        raise ValueError("words are drawn on labelled images")
    lettered_BCHW = _worst_word(logits, batch, class_names, letters)
    with torch.no_grad():
        standing_B = logits(lettered_BCHW).argmax(-1) == batch.label_B
    rows = {"word": standing_B}
    for (plan, epsilon), found in attack_all(
        logits, replace(batch, pixels_BCHW=lettered_BCHW, preference=None), standing_B, plans
    ).items():
        name = f"{plan.name} {round(255 * epsilon, 3):g}/255"
        rows |= {name: found.standing_B, f"{name} sound": found.sound_B}
    return rows


@torch.no_grad()
def _worst_word(logits: Logits, batch: Batch, class_names: Sequence[str], letters: TypographicPlan) -> Tensor:
    """The lettered images on which the true class leads least."""
    attack, side = letters.attack(class_names), batch.pixels_BCHW.shape[-1]
    pictures, margins = [], []
    for variant in range(WORDS_TRIED):
        rows = zip(batch.index_B.tolist(), batch.label_B.tolist(), strict=True)  # type: ignore[union-attr] # labelled
        drawn = [attack.draw(i, y, variant, side)[1] for i, y in rows]
        pictures.append(attack.overlay(batch.pixels_BCHW, drawn))
        margins.append(_margin(logits(pictures[-1]), batch.label_B))  # type: ignore[arg-type] # labelled
    worst_B = torch.stack(margins).argmin(0)
    return torch.stack(pictures)[worst_B, torch.arange(len(worst_B), device=worst_B.device)]


def _margin(logits_BC: Tensor, label_B: Tensor) -> Tensor:
    """Logit of the true class less the largest other one."""
    true_B = logits_BC.gather(1, label_B[:, None]).squeeze(1)
    others_BC = logits_BC.scatter(1, label_B[:, None], -torch.inf)
    return true_B - others_BC.amax(-1)
