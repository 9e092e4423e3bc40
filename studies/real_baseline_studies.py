"""Studies of LORE's baselines on a real tower as tables of settings: FARE at larger radii, TeCoA under constraints."""

from dataclasses import replace
from typing import Any

from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import share, value
from studies.declare import Claim, Contrast, Design, EachSet, Line, Logged, Panel, SetColumns, Study
from studies.lore_studies import PAPER
from studies.pools import REAL, REAL_ALIKE
from studies.real_arms import (
    ATTACK_STEPS,
    BASE,
    FARE,
    IN_BF16,
    LOW_RATE,
    RADIUS,
    STEPS,
    TEST,
    TRAIN,
    UPDATES,
    real_fare,
    real_lore,
    real_penalty,
    real_specs,
    real_tecoa,
)
from studies.real_studies import ATTACKED, COLUMNS, FRONT, FRONT_ARMS, LORE, NOTE, PENALTY
from studies.workspace import ELSEWHERE, TWO_SEEDS

# ---- real-epsilon: radii at which FARE and LORE part in the paper
LARGE, LARGEST = 4, 8  # in 255ths
EARLY = 40  # steps, in which instability shows: the learning rate peaks at step 20
METHODS = (FARE, LORE, PENALTY)
LOWEST = "lowest"


def at_radius(method: str, epsilon: int) -> str:
    """The name of a method's arm at a trained radius."""
    return f"{method}, ε={epsilon}"


def _radius_arms(epsilon: int) -> dict[str, RunConfig]:
    watched: dict[str, Any] = {"val_data": ("photos/validation",), "eval_every": 10, "eval_samples": 100}
    watched["lr"] = LOW_RATE
    arms = {
        FARE: real_fare(epsilon, **watched),
        LORE: real_lore(0.1, epsilon, **watched),
        PENALTY: real_penalty(1.0, epsilon, **watched),
    }
    return {at_radius(name, epsilon): config for name, config in arms.items()}


def _at_each(label: str, measure: str, other: str = FARE, wanted: int = 1) -> tuple[Contrast, ...]:
    return tuple(
        Contrast(f"{label}ε = {e}/255", at_radius(LORE, e), at_radius(other, e), measure, TEST, wanted)
        for e in (LARGEST, LARGE)
    )


def _keeps_and_holds(other: str) -> tuple[Contrast, ...]:
    robust = (c for e in (1, 2) for c in _at_each(f"{e}/255, ", f"apgd-ce {e}/255", other, wanted=0))
    return (*_at_each("clean, ", "clean", other), *robust)


RADII = Design(
    pool=REAL,
    photos=TEST,
    arms=_radius_arms(LARGEST) | _radius_arms(LARGE),
    specs=(
        EvaluationSpec(
            (TEST,),
            Protocol((AttackPlan("apgd-ce", "linf", (1 / 255, 2 / 255, 4 / 255), ATTACK_STEPS),), suites=("drift",)),
        ),
        EvaluationSpec((ELSEWHERE,), Protocol((), samples=1000)),
    ),
    columns=(
        share(f"lowest of {EARLY} steps %", LOWEST, TEST),
        share("photos clean %", "clean", TEST),
        *(share(f"photos {e}/255 %", f"apgd-ce {e}/255", TEST) for e in (1, 2, 4)),
        SetColumns((("{set} clean %", "clean"),)),
        value("drift", "drift.distance.mean", dataset=TEST),
    ),
    of_log={LOWEST: Logged("eval|photos/validation|clean", EARLY, 100)},
    note=(
        f"`{BASE}` at 128 pixels, `{TRAIN}` (800 photos). Training: {STEPS} steps of 32 photos at ε, three attack "
        f"steps, {UPDATES} updates a step, learning rate 1e-4. Numbers: {{seeds}}; {{counts}}; APGD-CE with "
        f"{ATTACK_STEPS} steps. *Lowest*: clean accuracy on 100 validation photos, looked at every 10 steps. In the "
        f"figure each line leads from ε = {LARGEST}/255 to {LARGE}/255."
    ),
    panels=tuple(
        Panel(
            f"Clean against robust: attacked at {radius}/255",
            f"robust accuracy on photos at {radius}/255, %",
            "photos clean, %",
            tuple(
                Line(name, tuple(at_radius(name, e) for e in (LARGE, LARGEST)), "path", spread=False)
                for name in METHODS
            ),
            f"photos {radius}/255 %",
            "photos clean %",
        )
        for radius in (1, 2)
    ),
    picture="clean against robust accuracy of a real tower that was trained at larger radii",
    claims=(
        Claim(
            f"on a real tower LORE's clean accuracy dips less in the first {EARLY} steps than FARE's",
            _at_each("", LOWEST),
        ),
        Claim(
            "on a real tower LORE keeps more clean accuracy at large radii than FARE and is no less robust",
            _keeps_and_holds(FARE),
        ),
        Claim(
            "on a real tower LORE keeps more clean accuracy at large radii than a fixed penalty and is no less robust",
            _keeps_and_holds(PENALTY),
        ),
    ),
)

# ---- real-tecoa: TeCoA with and without constraints
TECOA, EMBEDDINGS, DISTRIBUTIONS = "TeCoA", "TeCoA + embedding constraint", "TeCoA + KL constraint"
# its loss is of order 1, distances are of order 100: multipliers start where those of `dpo-lore-lite` do
_HELD = AnchorConfig("lagrangian", rho=0.1, dual_lr=5e-4, initial_multiplier=0.003, max_multiplier=20.0)
TECOA_ARMS = {
    TECOA: real_tecoa(),
    EMBEDDINGS: real_tecoa(_HELD),
    DISTRIBUTIONS: real_tecoa(replace(_HELD, space="distribution", initial_multiplier=1.0)),
}


def _keeps_more(one: str, other: str) -> tuple[Contrast | EachSet, ...]:
    return (
        EachSet((Contrast("{set}", one, other, "clean"),), photos="photos"),
        Contrast(f"{RADIUS}/255", one, other, ATTACKED, TEST, wanted=0),
    )


TECOAS = Design(
    pool=REAL_ALIKE,
    photos=TEST,
    arms=TECOA_ARMS | {name: FRONT_ARMS[name] for name in (FARE, LORE)},
    specs=real_specs(),
    columns=COLUMNS,
    note=f"{NOTE} TeCoA learns from the labels of the training photos; FARE and LORE see none.",
    panels=(
        replace(FRONT.panels[0], lines=tuple(Line(name, (name,), spread=False) for name in (*TECOA_ARMS, FARE, LORE))),
    ),
    picture="clean against robust accuracy of TeCoA with and without constraints on a real tower",
    claims=(
        *(
            Claim(f"on a real tower {held} keeps more than TeCoA and is no less robust", _keeps_more(held, TECOA))
            for held in (EMBEDDINGS, DISTRIBUTIONS)
        ),
        Claim(
            "on a real tower a constraint on embeddings helps TeCoA more than one on class distributions",
            _keeps_more(EMBEDDINGS, DISTRIBUTIONS),
        ),
    ),
)

STUDIES = (
    Study(
        "real-epsilon",
        "A real tower: larger radii",
        f"{PAPER}: at large ε FARE loses clean accuracy early in training, LORE does not, and LORE ends higher.",
        130,
        RADII,
        TWO_SEEDS,
    ),
    Study(
        "real-tecoa",
        "A real tower: TeCoA under constraints",
        f"{PAPER}: a constraint on embeddings helps TeCoA most, one on class distributions less.",
        110,
        TECOAS,
        IN_BF16,
    ),
)
