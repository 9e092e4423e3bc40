"""Which images of a batch survive which attack.

Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seaanchor.attacks.apgd_classifier import apgd_ce, apgd_targeted
from seaanchor.attacks.autoattack import autoattack_standard
from seaanchor.attacks.ball import Ball, Norm
from seaanchor.attacks.classification import AttackResult, Classifier, Logits, Precision, broken
from seaanchor.attacks.pgd import pgd_attack
from seaanchor.attacks.square import pyautoattack, square_attack
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Batch
from seaanchor.utils import stages
from seaanchor.utils.numbers import check_seed

AttackName = Literal["pgd", "apgd-ce", "apgd", "square", "autoattack", "embedding"]
Stage = Callable[..., AttackResult]


def _square(
    logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, ball: Ball, *, num_steps: int, index_B: Tensor, seed: int
) -> AttackResult:
    """Square as a stage."""
    return square_attack(logits, Batch(pixels_BCHW, label_B, index_B), ball, num_steps, seed)


def _autoattack(
    logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, ball: Ball, *, num_steps: int, index_B: Tensor, seed: int
) -> AttackResult:
    """AutoAttack as a stage; its standard version has 100 steps and 5,000 queries."""
    batch = Batch(pixels_BCHW, label_B, index_B)
    return autoattack_standard(logits, batch, ball, seed, num_steps=num_steps, num_queries=50 * num_steps)


STAGES: dict[str, tuple[Stage, ...]] = {
    "pgd": (pgd_attack,),
    "apgd-ce": (apgd_ce,),
    "apgd": (apgd_ce, apgd_targeted),
    "square": (_square,),
    "autoattack": (_autoattack,),
}
"""The attacks behind a name, each on the images that the one before did not fool; all of them are functions of
(logits, pixels, labels, ball), and of num_steps, index_B and seed by name."""
NEEDS_EXTRA = ("square", "autoattack")
GRADIENT = ("pgd", "apgd-ce", "apgd", "autoattack")  # white boxes
LOW_PRECISION = (
    "pgd",
    "apgd-ce",
    "apgd",
)  # may follow gradients of low precision; AutoAttack's standard version is a fixed thing, Square has none
TARGETS = 9  # of targeted APGD
FEWEST_TARGETED = 4  # classes; the targeted DLR loss compares the third and fourth largest logits


@dataclass(frozen=True)
class AttackPlan:
    """Which attack at which radii.

    Attributes:
        name: `pgd`, `apgd-ce`, `apgd` (APGD-CE, then targeted APGD-DLR on the survivors), `square`, `autoattack`;
            `embedding` is a suite's.
        norm: `linf` or `l2`.
        epsilons: radii in pixel units, in any order; they are attacked from the smallest up.
        num_steps: gradient steps, or queries, of each attack.
        seed: of the random starts, which depend on the image and not on its batch.
        precision: of the gradients that the attack follows; whether an image is fooled is judged in fp32 whatever it
            is.
    """

    name: AttackName
    norm: Norm
    epsilons: tuple[float, ...]
    num_steps: int
    seed: int = 0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """A seed that every generator takes."""
        check_seed(self.seed)


@dataclass(frozen=True)
class AttackOutcome:
    """Which images are classified correctly after an attack (B,), and whose attacked version was finite, in the ball
    and in [0, 1], by gradients that were finite (B,)."""

    correct_B: Tensor
    sound_B: Tensor


def fallback(plan: AttackPlan, num_classes: int) -> str | None:
    """What is left out of the attack for want of classes, in words for the result file; None if nothing is."""
    if plan.name not in ("apgd", "autoattack") or num_classes >= FEWEST_TARGETED:
        return None
    instead = "APGD-CE alone" if plan.name == "apgd" else "AutoAttack without targeted APGD"
    return f"{instead}: targeted DLR needs {FEWEST_TARGETED} classes, here are {num_classes}"


def require_extra(plans: Sequence[AttackPlan]) -> None:
    """Raise a SeaAnchorError if an attack needs a package that is not there."""
    if any(plan.name in NEEDS_EXTRA for plan in plans):
        pyautoattack()


def attack_survivors(
    logits: Logits, batch: Batch, correct_B: Tensor, plan: AttackPlan, epsilon: float, skip_stages: int = 0
) -> AttackOutcome:
    """Attack the images that are still classified correctly.

    Args:
        logits: pixels → (B, C); where the plan's gradients are of low precision, with logits of such precision beside.
        batch: labelled images.
        correct_B: which of them are still classified correctly.
        plan: the attack.
        epsilon: its radius.
        skip_stages: how many stages of the attack these images have been through already.

    Raises:
        SeaAnchorError: the attack, or the classifier, has no low precision.
    """
    follow = _followed(logits, plan)
    correct_B, sound_B = correct_B.clone(), torch.ones_like(correct_B)
    ball = Ball(plan.norm, epsilon)
    for stage in STAGES[plan.name][skip_stages:]:
        rows = correct_B.nonzero().squeeze(1)
        if len(rows) == 0:
            break
        if stage is apgd_targeted and _num_classes(logits, batch) < FEWEST_TARGETED:
            continue
        clean, label_B = batch.pixels_BCHW[rows], batch.label_B[rows]  # type: ignore[index] # labelled
        with _shown(plan, epsilon, stage, len(rows)):
            result = stage(
                logits,
                clean,
                label_B,
                ball,
                num_steps=plan.num_steps,
                index_B=batch.index_B[rows],
                seed=plan.seed,
                **follow,
            )
        correct_B[rows] = ~result.fooled_B
        sound_B[rows] &= inside(result.pixels_BCHW, clean, ball) & ~broken(result)
    return AttackOutcome(correct_B, sound_B)


def _shown(plan: AttackPlan, epsilon: float, stage: Stage, num_images: int) -> AbstractContextManager[None]:
    """One stage of an attack on a batch, as the user sees it."""
    radius = f"{epsilon:g}" if plan.norm == "l2" else f"{round(255 * epsilon, 3):g}/255"
    total = plan.num_steps * (TARGETS if stage is apgd_targeted else 1)
    title = f"{plan.name}{', targeted' if stage is apgd_targeted else ''}, ε = {radius}, {num_images} images"
    return stages.stage(title, total, "queries" if stage is _square else "steps")


def _followed(logits: Logits, plan: AttackPlan) -> dict[str, Logits]:
    """The classifier whose gradients a stage follows, where it is not the one that judges."""
    if plan.precision == "fp32":
        return {}
    if plan.name not in LOW_PRECISION:
        raise SeaAnchorError(
            f"{plan.name} with gradients in {plan.precision}", f"one of {', '.join(LOW_PRECISION)}", "leave it at fp32"
        )
    if not isinstance(logits, Classifier) or logits.low is None:
        raise SeaAnchorError(
            f"a classifier without logits in {plan.precision}",
            "a Classifier with `low`",
            "build it with `classifier(..., precision=...)`",
        )
    return {"follow": logits.low}


def attack_all(
    logits: Logits, batch: Batch, correct_B: Tensor, plans: Sequence[AttackPlan]
) -> dict[tuple[AttackPlan, float], AttackOutcome]:
    """Every attack at every radius, from the smallest radius up.

    An image fooled at a smaller radius stays fooled at a larger one: the smaller perturbation lies in the larger ball.
    An attack whose first stages another plan has run already takes its survivors from there.
    """
    found: dict[tuple[AttackPlan, float], AttackOutcome] = {}
    for plan in sorted(plans, key=lambda plan: len(STAGES[plan.name])):
        done = _same_beginning(plan, [p for p in plans if (p, max(p.epsilons)) in found])
        robust_B = correct_B
        for epsilon in sorted(plan.epsilons):
            skip, start_B = (
                (0, robust_B) if done is None else (len(STAGES[done.name]), robust_B & found[done, epsilon].correct_B)
            )
            found[plan, epsilon] = attack_survivors(logits, batch, start_B, plan, epsilon, skip)
            robust_B = found[plan, epsilon].correct_B
    return {(plan, epsilon): found[plan, epsilon] for plan in plans for epsilon in sorted(plan.epsilons)}


def _same_beginning(plan: AttackPlan, before: Sequence[AttackPlan]) -> AttackPlan | None:
    """The longest plan already run whose stages this one begins with, at the same settings."""

    def settings(p: AttackPlan) -> tuple:
        return p.norm, sorted(p.epsilons), p.num_steps, p.seed, p.precision

    same = [
        p
        for p in before
        if settings(p) == settings(plan) and STAGES[p.name] == STAGES[plan.name][: len(STAGES[p.name])]
    ]
    return max(same, key=lambda p: len(STAGES[p.name]), default=None)


def inside(pixels_BCHW: Tensor, clean_BCHW: Tensor, ball: Ball) -> Tensor:
    """Which attacked images (B,) are finite, in [0, 1] and in the ball, but for rounding."""
    flat = pixels_BCHW.flatten(1)
    legal_B = flat.isfinite().all(1) & (flat >= 0).all(1) & (flat <= 1).all(1)
    return legal_B & (ball.distance(pixels_BCHW, clean_BCHW) <= ball.epsilon * (1 + 1e-4) + 1e-6)


@torch.no_grad()
def _num_classes(logits: Logits, batch: Batch) -> int:
    return logits(batch.pixels_BCHW[:1]).shape[-1]
