"""An adaptive attacker with two means: the worst of several drawn words, then noise on the image with that word.

Legend: B batch, C classes, V words tried.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from seaanchor.attacks.classification import Logits
from seaanchor.data.types import TypographicImages
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan, attack_all
from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Suite, Tables, legal_check
from seaanchor.evaluation.results import Check
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.suite_results import WordsAndNoise
from seaanchor.evaluation.table import Table
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.types import Batch

WORDS_TRIED = 3


def words_and_noise(
    logits: Logits, batch: Batch, class_names: Sequence[str], drawing: TypographicPlan, plans: Sequence[AttackPlan]
) -> Table:
    """Which images (B,) are classified correctly with the worst of `WORDS_TRIED` drawn words on them (`word`), and
    still after each attack on that image (`ATTACK RADIUS`); and whose attacked versions were legal (`ATTACK
    RADIUS sound`).

    The attacker knows the model: several words are drawn, each at its own position, the one with the smallest margin of
    the true class is used, and the ball around that picture is searched.
    """
    if batch.label_B is None:
        raise ValueError("words are drawn on labelled images")
    worded_BCHW = _worst_word(logits, batch, class_names, drawing)
    with torch.no_grad():
        correct_B = logits(worded_BCHW).argmax(-1) == batch.label_B
    rows = {"word": correct_B}
    for (plan, epsilon), found in attack_all(
        logits, replace(batch, pixels_BCHW=worded_BCHW, preference=None), correct_B, plans
    ).items():
        name = f"{plan.name} {round(255 * epsilon, 3):g}/255"
        rows |= {name: found.correct_B, f"{name} sound": found.sound_B}
    return rows


@torch.no_grad()
def _worst_word(logits: Logits, batch: Batch, class_names: Sequence[str], drawing: TypographicPlan) -> Tensor:
    """The images with a word on which the true class leads least."""
    attack, side = drawing.attack(class_names), batch.pixels_BCHW.shape[-1]
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


def _measure(context: EvaluationContext, clean: CleanBatch) -> Table:
    protocol = context.protocol
    return words_and_noise(context.logits, clean.batch, context.class_names, protocol.typographic, protocol.plans)


def _summarise(context: EvaluationContext, tables: Tables) -> WordsAndNoise:
    shares = {name: share_of(hit_N) for name, hit_N in tables.columns.items() if not name.endswith(" sound")}
    return WordsAndNoise(shares.pop("word"), shares, context.protocol.typographic.settings(WORDS_TRIED))


def _audit(context: EvaluationContext, tables: Tables) -> dict[str, Check]:
    return legal_check([sound_N for name, sound_N in tables.columns.items() if name.endswith(" sound")])


def _check(context: EvaluationContext) -> None:
    if not context.protocol.plans:
        raise SeaAnchorError(
            "words-and-noise without an attack", "an attack for the noise, such as apgd-ce", "add one to --suite"
        )
    if isinstance(context.images, TypographicImages):
        raise SeaAnchorError(
            f"words-and-noise on {context.images.root}, whose images carry a word already",
            "images without words",
            "correct --data",
        )


SUITE = Suite(_summarise, _measure, check=_check, audit=_audit)
