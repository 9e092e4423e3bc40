"""What the studies on a real tower train: `seaanchor-lite`, whose trunk others trained on ImageNet, on photos at 128
pixels.

Settings of every method were chosen on `photos/validation`; what is reported is measured on `photos/test` and on sets
that no fine-tuning sees.
"""

from dataclasses import replace
from typing import Any

from seaanchor.config.recipes import fare, lore, penalty, tecoa
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec
from studies.workspace import ELSEWHERE

BASE = "seaanchor-lite"
TEST, TRAIN = "photos/test", "photos/train"
RADIUS = 2  # of training, in 255ths
STEPS, DIVERSE_STEPS = 100, 150  # of 32 photos: on the photos that ship, and on diverse ones
UPDATES = 2  # of the encoder a step, for every method
WEIGHTS = (0.3, 1.0, 3.0)  # of the fixed penalty
ATTACK_STEPS = 10  # of APGD-CE in evaluation
IN_BF16 = (1, 2)  # seeds at which every arm was updated in bf16; at 0 those of the front were in fp32
LOW_RATE = 1e-4  # of learning: an anchor alone stays below ρ there, and FARE lives at 8/255, docs/LOG.md
FARE = "FARE"


def real_budget(recipe: RunConfig, epsilon: float = RADIUS, **changes: Any) -> RunConfig:
    """The same photos, attack, updates and learning rate for every method; three attack steps of half the radius."""
    attack = PerturbationConfig(epsilon=f"{epsilon:g}/255", num_steps=3, step_size=f"{epsilon / 2:g}/255")
    settings: dict[str, Any] = {
        "model": BASE,
        "train_data": TRAIN,
        "perturbation": attack,
        "primal_steps": UPDATES,
        "batch_size": 32,
        "lr": 5e-4,
        "fold_norms": True,
        "warmup": 20,
        "epochs": 1000,
        "max_steps": STEPS,
        "precision": "bf16",
        "save_every": 25,
        "log_every": 10,
        "device": "cpu",
    }
    return replace(recipe, **settings | changes)


def real_fare(epsilon: float = RADIUS, **changes: Any) -> RunConfig:
    """FARE within the budget."""
    return real_budget(fare(), epsilon, **changes)


def real_lore(rho: float, epsilon: float = RADIUS, held: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """LORE within the budget; `held` changes settings of its anchor."""
    anchor = AnchorConfig("lagrangian", rho=rho, dual_lr=1e-4, initial_multiplier=2.0, max_multiplier=20.0)
    return replace(real_budget(lore(), epsilon, **changes), anchor=replace(anchor, **held or {}))


def real_penalty(weight: float, epsilon: float = RADIUS, **changes: Any) -> RunConfig:
    """The fixed penalty within the budget."""
    return real_budget(penalty(weight=weight), epsilon, **changes)


def real_tecoa(anchor: AnchorConfig | None = None, epsilon: float = RADIUS) -> RunConfig:
    """TeCoA within the budget, alone or held by an anchor; it reads the labels of `photos/train`."""
    return replace(real_budget(tecoa(), epsilon), objective=ObjectiveConfig("tecoa"), anchor=anchor or AnchorConfig())


def real_specs(samples: int = 300) -> tuple[EvaluationSpec, ...]:
    """The photos, clean, attacked at half the radius of training and at all of it, and how far they drifted; the sets
    elsewhere, clean and attacked at half of it."""
    half, whole = RADIUS / 2 / 255, RADIUS / 255
    both, gentle = (AttackPlan("apgd-ce", "linf", radii, ATTACK_STEPS) for radii in ((half, whole), (half,)))
    return (
        EvaluationSpec((TEST,), Protocol((both,), suites=("drift",))),
        EvaluationSpec((ELSEWHERE,), Protocol((gentle,), samples=samples)),
    )
