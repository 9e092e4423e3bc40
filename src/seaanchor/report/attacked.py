"""What the gallery does to its images: the attack of a result, again.

Legend: B images, C classes, H W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import AttackResult, Logits
from seaanchor.attacks.pgd import pgd_attack
from seaanchor.evaluation.results import EvaluationResult, RobustAccuracy, same_radius
from seaanchor.evaluation.suite_results import TypographicSettings
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.report.measures import ATTACKS, ball_text, radius
from seaanchor.report.radii import trained_radius
from seaanchor.report.sources import Entry
from seaanchor.types import Batch

TARGETED_CLASSES = 4  # fewest that the targeted attack is defined for


@dataclass(frozen=True)
class Attack:
    """What is done to the images: its name in words, (clean batch, logits) → attacked pixels and the drawn word's class
    or −1, and how a
    difference is shown: in words, and as picture."""

    name: str
    attacked: Callable[[Batch, Logits], tuple[Tensor, Tensor]]
    difference: str
    shown: Callable[[Tensor], Tensor]


def drawn_words(names: Sequence[str], result: EvaluationResult) -> Attack:
    """The words of the result's typographic suite, on the same images."""
    found = result.suites.typographic
    plan = (found.plan if found else None) or TypographicSettings()
    drawing = TypographicPlan(plan.words, plan.fonts, plan.sizes, plan.seed).attack(names)

    def attacked(batch: Batch, logits: Logits) -> tuple[Tensor, Tensor]:
        # candidates are labelled
        label_B, size = batch.label_B.tolist(), batch.pixels_BCHW.shape[-1]  # type: ignore[union-attr]
        drawn = [drawing.draw(i, y, 0, size) for i, y in zip(batch.index_B.tolist(), label_B, strict=True)]
        return drawing.overlay(batch.pixels_BCHW, [lettering for _, lettering in drawn]), torch.tensor(
            [word for word, _ in drawn]
        )

    return Attack(
        "a wrong class word drawn on", attacked, "difference, half as strong", lambda delta_BCHW: 0.5 + delta_BCHW / 2
    )


def gradient_attack(entry: Entry, result: EvaluationResult, num_classes: int) -> Attack:
    """The strongest attack of the result that is ours, at the training radius if it was evaluated there, else at the
    smallest."""
    row = _chosen(result, trained_radius(entry))
    seed = next((plan.seed for plan in result.protocol.plans if plan.name == row.attack), 0)
    ball, steps = Ball("l2" if row.norm == "l2" else "linf", row.epsilon), row.num_steps or 100
    targeted = row.attack not in ("pgd", "apgd-ce") and num_classes >= TARGETED_CLASSES
    stages = [pgd_attack if row.attack == "pgd" else apgd_ce, *([apgd_targeted] if targeted else [])]

    def attacked(batch: Batch, logits: Logits) -> tuple[Tensor, Tensor]:
        return _in_stages(stages, batch, logits, ball, steps, seed), torch.full_like(batch.index_B, -1)

    first = "PGD" if row.attack == "pgd" else "APGD-CE"
    name = first if not targeted else "APGD"
    text = f"{name}, {steps} steps, ε = {radius(row.epsilon)} ({ball_text(row.norm)})"
    if ball.norm == "linf":
        times, twice = 0.5 / row.epsilon, 2 * row.epsilon
        return Attack(text, attacked, f"difference, {times:.0f} times", lambda delta_BCHW: 0.5 + delta_BCHW / twice)
    return Attack(text, attacked, "difference, scaled to its largest value", _to_its_largest)


def _chosen(result: EvaluationResult, trained: float | None) -> RobustAccuracy:
    """The accuracy whose attack is shown."""
    rows, order = [row for row in result.robust.rows if row.epsilon > 0], list(ATTACKS)
    name = min((row.attack for row in rows), key=lambda a: order.index(a) if a in order else len(order))
    same = [row for row in rows if row.attack == name]
    at_training = [row for row in same if trained is not None and same_radius(row.epsilon, trained)]
    return next(iter(at_training), min(same, key=lambda row: row.epsilon))


def _in_stages(
    stages: Sequence[Callable[..., AttackResult]], batch: Batch, logits: Logits, ball: Ball, num_steps: int, seed: int
) -> Tensor:
    """Attacked pixels (B, C, H, W): each stage attacks the images that the one before did not fool."""
    pixels_BCHW = batch.pixels_BCHW.clone()
    correct_B = torch.ones(len(batch.index_B), dtype=torch.bool, device=pixels_BCHW.device)
    for stage in stages:
        left = correct_B.nonzero().squeeze(1)
        if len(left):
            found = stage(
                logits,
                batch.pixels_BCHW[left],
                batch.label_B[left],  # type: ignore[index] # candidates are labelled
                ball,
                num_steps=num_steps,
                index_B=batch.index_B[left],
                seed=seed,
            )
            pixels_BCHW[left], correct_B[left] = found.pixels_BCHW, ~found.fooled_B
    return pixels_BCHW


def _to_its_largest(delta_BCHW: Tensor) -> Tensor:
    return 0.5 + delta_BCHW / (2 * delta_BCHW.abs().amax((1, 2, 3), keepdim=True) + 1e-12)
