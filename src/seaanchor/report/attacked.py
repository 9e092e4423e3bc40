"""What the gallery does to its images: the attack of a result, again.

Legend: B images, C classes, H W pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits
from seaanchor.attacks.pgd import pgd_attack
from seaanchor.perturbations.typographic import Typographic
from seaanchor.report.measures import ATTACKS, ball_text, radius
from seaanchor.report.radii import trained_radius
from seaanchor.report.sources import Entry, Result
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


def drawn_words(names: Sequence[str], result: Result) -> Attack:
    """The words of the result's typographic suite, on the same images."""
    plan = result.data["suites"]["typographic"]["plan"]
    words, fonts = plan.get("words", plan.get("half", "all")), plan.get("fonts", plan.get("split", "unseen"))
    drawing = Typographic(names, words, fonts, (plan["sizes"][0], plan["sizes"][1]), 1, plan["seed"])

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


def gradient_attack(entry: Entry, result: Result, num_classes: int) -> Attack:
    """The strongest attack of the result that is ours, at the training radius if it was evaluated there, else at the
    smallest."""
    rows = [row for row in result.data["robust"] if row["epsilon"] > 0]
    order = list(ATTACKS)
    name = min((row["attack"] for row in rows), key=lambda a: order.index(a) if a in order else len(order))
    plans = {plan["name"]: plan for plan in result.data["protocol"].get("plans") or ()}
    same = [plans.get(name, {}) | row for row in rows if row["attack"] == name]
    trained = trained_radius(entry)
    row = next(
        (r for r in same if trained is not None and abs(r["epsilon"] - trained) < 1e-9),
        min(same, key=lambda r: r["epsilon"]),
    )
    ball, steps, seed = Ball(row.get("norm") or "linf", row["epsilon"]), row.get("num_steps") or 100, row.get("seed", 0)
    targeted = name not in ("pgd", "apgd-ce") and num_classes >= TARGETED_CLASSES
    stages = [pgd_attack if name == "pgd" else apgd_ce, *([apgd_targeted] if targeted else [])]

    def attacked(batch: Batch, logits: Logits) -> tuple[Tensor, Tensor]:
        pixels_BCHW, standing_B = (
            batch.pixels_BCHW.clone(),
            torch.ones(len(batch.index_B), dtype=torch.bool, device=batch.pixels_BCHW.device),
        )
        for stage in stages:
            left = standing_B.nonzero().squeeze(1)
            if len(left):
                found = stage(
                    logits,
                    batch.pixels_BCHW[left],
                    batch.label_B[left],  # type: ignore[index]
                    ball,
                    num_steps=steps,
                    index_B=batch.index_B[left],
                    seed=seed,
                )
                pixels_BCHW[left], standing_B[left] = found.pixels_BCHW, ~found.fooled_B
        return pixels_BCHW, torch.full_like(batch.index_B, -1)

    shown_as = "PGD" if name == "pgd" else "APGD-CE" if name == "apgd-ce" or not targeted else "APGD"
    text = f"{shown_as}, {steps} steps, ε = {radius(row['epsilon'])} ({ball_text(row.get('norm'))})"
    if ball.norm == "linf":
        return Attack(
            text,
            attacked,
            f"difference, {0.5 / row['epsilon']:.0f} times",
            lambda delta_BCHW: 0.5 + delta_BCHW / (2 * row["epsilon"]),
        )
    return Attack(text, attacked, "difference, scaled to its largest value", _to_its_largest)


def _to_its_largest(delta_BCHW: Tensor) -> Tensor:
    return 0.5 + delta_BCHW / (2 * delta_BCHW.abs().amax((1, 2, 3), keepdim=True) + 1e-12)
