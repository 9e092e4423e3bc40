"""Robust models that several studies share: each is trained once, in one folder, on the 32-pixel sibling of the
embedded model.

A run of them takes one to four minutes on one core of a processor with AVX2.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seaanchor.config.recipes import fare, lore, penalty, tecoa
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec
from studies.workspace import ELSEWHERE, PHOTOS

SIBLING = "models/seaanchor-tiny-32"  # of the repository, not of the package: it would be a quarter of its size
ATTACK_STEPS = 10  # of APGD-CE in evaluation
EPSILON = 4  # in 255ths: where FARE and LORE part in the paper
RHO = 0.05  # of the arm that other studies take as LORE
FARE, FARE_ONCE, LORE = "FARE", "FARE, one update", f"LORE ρ={RHO:g}"
STEPS = 150  # of 32 photos: six passes over the 800
UPDATES = 2  # of the encoder a batch, for every method: the same images, attacks and updates for all


def require_sibling() -> None:
    """See that the model of these arms lies below the working folder.

    Raises:
        SeaAnchorError: it does not.
    """
    if not Path(SIBLING).is_dir():
        change = (
            "run it in a clone of the repository, or train the model: python -m tools.pretraining "
            "--image-size 32 (docs/pretraining.md)"
        )
        raise SeaAnchorError(
            f"{SIBLING} is missing", "the 32-pixel sibling of the embedded model, which the repository holds", change
        )


def budget(recipe: RunConfig, epsilon: float = EPSILON, primal_steps: int = UPDATES) -> RunConfig:
    """The same model, photos, attack and number of images for every method; two attack steps of three quarters of ε."""
    attack = PerturbationConfig(epsilon=f"{epsilon:g}/255", num_steps=2, step_size=f"{0.75 * epsilon:g}/255")
    return replace(
        recipe,
        model=SIBLING,
        train_data="photos-mini/train",
        perturbation=attack,
        primal_steps=primal_steps,
        batch_size=32,
        lr=1.5e-3,
        warmup=15,
        epochs=100,
        max_steps=STEPS,
        save_every=STEPS,
        log_every=5,
        device="cpu",
    )


def fare_arm(epsilon: float = EPSILON, primal_steps: int = UPDATES) -> RunConfig:
    """FARE within the budget."""
    return budget(fare(), epsilon, primal_steps)


def lore_arm(rho: float, epsilon: float = EPSILON, primal_steps: int = UPDATES, **anchor: Any) -> RunConfig:
    """LORE within the budget; multipliers start at 1 and stay below 20."""
    held = AnchorConfig("lagrangian", rho=rho, dual_lr=5e-4, initial_multiplier=1.0, max_multiplier=20.0)
    return replace(budget(lore(), epsilon, primal_steps), anchor=replace(held, **anchor))


def penalty_arm(weight: float, epsilon: float = EPSILON) -> RunConfig:
    """The naive penalty within the budget."""
    return budget(penalty(weight=weight), epsilon)


def tecoa_arm(anchor: AnchorConfig | None = None) -> RunConfig:
    """TeCoA within the budget, alone or held by an anchor."""
    return replace(budget(tecoa()), objective=ObjectiveConfig("tecoa"), anchor=anchor or AnchorConfig())


def watched(config: RunConfig) -> RunConfig:
    """The same run with a look at 200 test photos every 15 batches, which changes nothing in it."""
    return replace(config, val_data=(PHOTOS,), eval_every=15, eval_samples=200)


def robust_spec(radii: Sequence[int] = (2, EPSILON)) -> EvaluationSpec:
    """Photos of the embedded set: clean, attacked (radii in 255ths), and how far they drifted."""
    attack = AttackPlan("apgd-ce", "linf", tuple(e / 255 for e in radii), ATTACK_STEPS)
    return EvaluationSpec((PHOTOS,), Protocol((attack,), suites=("drift",)))


HALF_RADIUS = EvaluationSpec(
    (ELSEWHERE,), Protocol((AttackPlan("apgd-ce", "linf", (2 / 255,), ATTACK_STEPS),), samples=500)
)  # sets that took no part in fine-tuning: clean, and attacked at half the training radius

RHOS = (0.15, 0.1, 0.05, 0.02)
TIGHT = (0.05, 0.02)  # where a multiplier lags behind its constraint
SLOW = 5e-5  # a tenth of the paper's dual rate, which overshoots less
WEIGHTS = (1.0, 3.0, 10.0)
WEIGHT = 3.0  # the one that other studies take
PENALTY = f"penalty w={WEIGHT:g}"

LORES = {f"LORE ρ={rho:g}": lore_arm(rho) for rho in RHOS}
SLOW_LORES = {f"LORE ρ={rho:g}, slow": lore_arm(rho, dual_lr=SLOW) for rho in TIGHT}
PENALTIES = {f"penalty w={weight:g}": penalty_arm(weight) for weight in WEIGHTS}

_HELD = lore_arm(RHO).anchor
TECOAS = {
    "TeCoA": tecoa_arm(),
    # its loss is of order 1, distances are of order 100: at LORE's ρ and multipliers nothing would move
    "TeCoA + embedding constraint": tecoa_arm(replace(_HELD, rho=0.2, initial_multiplier=0.003)),
    "TeCoA + KL constraint": tecoa_arm(replace(_HELD, space="distribution", rho=0.1)),
}
