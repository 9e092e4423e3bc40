"""Studies of LORE (arXiv 2505.18884) as tables of settings: fronts, further tries, updates a step, TeCoA."""

from dataclasses import replace
from typing import Any

from studies.declare import Claim, Contrast, Design, EachSet, Line, Panel, Study
from studies.noise_arms import (
    EPSILON,
    FARE,
    FARE_ONCE,
    HALF_RADIUS,
    LORE,
    LORES,
    PENALTIES,
    RHO,
    RHOS,
    SLOW_LORES,
    STEPS,
    TECOAS,
    TIGHT,
    UPDATES,
    fare_arm,
    lore_arm,
    penalty_arm,
    robust_spec,
)
from studies.noise_tables import (
    ATTACKED,
    CLEAN,
    NOTE,
    ROBUST,
    ROBUST_LABEL,
    above_front,
    against_robust,
    keeps_more,
    robust_columns,
)
from studies.pools import NOISE
from studies.workspace import ONE_SEED

PAPER = "arXiv 2505.18884"
SPECS = (robust_spec(), HALF_RADIUS)

# ---- lore-front: LORE over ρ against the naive penalty over its weight, at equal images, attacks and updates
FARES = {FARE: fare_arm(), FARE_ONCE: fare_arm(primal_steps=1)}
FAMILIES = {FARE: FARES, "LORE": LORES, "LORE, slow dual": SLOW_LORES, "penalty": PENALTIES}
PENALTY_FRONT = (FARE, *PENALTIES)
LORE_FRONT = (FARE, *LORES)


def _above(arm: str, rhos: tuple[float, ...], front: tuple[str, ...]) -> tuple[EachSet, ...]:
    return (EachSet(tuple(above_front(f"{{set}} at ρ = {rho:g}", arm.format(rho), front) for rho in rhos)),)


FRONT = Design(
    pool=NOISE,
    arms=FARES | LORES | SLOW_LORES | PENALTIES,
    specs=SPECS,
    columns=robust_columns(),
    note=NOTE,
    panels=(
        Panel(
            "Clean against robust: {set}",
            ROBUST_LABEL,
            "{set} clean, %",
            tuple(
                Line(family, tuple(members), "points" if family == FARE else "line", spread=False)
                for family, members in FAMILIES.items()
            ),
            ROBUST,
            "{set} clean %",
            photos="photos",
            each_set=True,
        ),
    ),
    picture="clean against robust accuracy",
    claims=(
        Claim(
            "LORE's front lies above a fixed penalty's: more clean accuracy at equal robust accuracy",
            _above("LORE ρ={:g}", RHOS, PENALTY_FRONT),
        ),
        Claim(
            "a dual of a tenth of the learning rate lifts LORE above its own front",
            _above("LORE ρ={:g}, slow", TIGHT, LORE_FRONT),
        ),
        Claim(
            "a dual of a tenth of the learning rate lifts LORE above the penalty's front",
            _above("LORE ρ={:g}, slow", TIGHT, PENALTY_FRONT),
        ),
        Claim(
            "LORE keeps more clean accuracy than FARE and is no less robust",
            tuple(
                contrast
                for rho in RHOS
                for contrast in (
                    Contrast(f"clean at ρ = {rho:g}", f"LORE ρ={rho:g}", FARE, "clean"),
                    Contrast(f"{EPSILON}/255", f"LORE ρ={rho:g}", FARE, ATTACKED, wanted=0),
                )
            ),
        ),
    ),
)

# ---- lore-tried: LORE and the penalties it lies between, with other settings for all three
TRIES: dict[str, dict[str, Any]] = {
    "learning rate × 2": {"lr": 3e-3},
    "twice the batches": {"max_steps": 2 * STEPS},
    "four times the batches": {"max_steps": 4 * STEPS},
    "unit embeddings": {"unit_embeddings": True},
}
TRIED_PENALTIES = {"penalty w=1": penalty_arm(1.0), "penalty w=3": penalty_arm(3.0)}

TRIED = Design(
    pool=NOISE,
    arms={
        f"{name}, {what}": replace(config, **settings)
        for what, settings in TRIES.items()
        for name, config in ({"LORE": lore_arm(0.1)} | TRIED_PENALTIES).items()
    },
    specs=SPECS,
    columns=robust_columns(),
    note=NOTE,
    panels=tuple(
        Panel(
            what,
            ROBUST_LABEL,
            "photos clean, %",
            (
                Line("LORE ρ=0.1", (f"LORE, {what}",), spread=False),
                Line("penalty, weights 1 and 3", tuple(f"{name}, {what}" for name in TRIED_PENALTIES), spread=False),
            ),
            ROBUST,
            CLEAN,
        )
        for what in TRIES
    ),
    picture="the same comparison under other settings",
    claims=(
        Claim(
            "another learning rate, budget or normalisation lifts LORE above the penalty's front",
            tuple(
                EachSet(
                    (above_front(f"{what}, {{set}}", f"LORE, {what}", [f"{p}, {what}" for p in TRIED_PENALTIES]),),
                    photos="photos",
                )
                for what in TRIES
            ),
        ),
    ),
)

# ---- lore-k: LORE over updates a step, with FARE at as many beside it
KS = (1, 2, 5)


def stepped(method: str, k: int) -> str:
    """The run of a method with K updates a step; those of the fronts are theirs."""
    shared = {(FARE, 1): FARE_ONCE, (FARE, UPDATES): FARE, (LORE, UPDATES): LORE}
    return shared.get((method, k), f"{method}, K = {k}")


K = Design(
    pool=NOISE,
    arms={
        stepped(name, k): config
        for k in KS
        for name, config in ((FARE, fare_arm(primal_steps=k)), (LORE, lore_arm(RHO, primal_steps=k)))
    },
    specs=SPECS,
    columns=robust_columns(),
    note=f"{NOTE} ρ = {RHO:g}.",
    panels=tuple(
        Panel(
            title,
            "updates a batch, K",
            "accuracy, %",
            tuple(Line(name, tuple(stepped(name, k) for k in KS), "line", at=KS) for name in (FARE, LORE)),
            y=title,
        )
        for title in (CLEAN, ROBUST, "emoji clean %")
    ),
    log=True,
    picture="accuracy against K",
    claims=(
        Claim(
            "a larger K lowers clean accuracy",
            (
                EachSet(
                    (Contrast("LORE, K = 1 less K = 5, {set}", stepped(LORE, 1), stepped(LORE, 5), "clean"),),
                    photos="photos",
                ),
            ),
        ),
        Claim(
            "a larger K raises robust accuracy",
            (Contrast(f"LORE, K = 5 less K = 1, {EPSILON}/255", stepped(LORE, 5), stepped(LORE, 1), ATTACKED),),
        ),
    ),
)

# ---- lore-tecoa: TeCoA with and without constraints, beside FARE and LORE
BARE, *HELD = TECOAS
TECOA_ARMS = TECOAS | {FARE: fare_arm(), LORE: lore_arm(RHO)}

TECOA = Design(
    pool=NOISE,
    arms=TECOA_ARMS,
    specs=SPECS,
    columns=robust_columns(),
    note=f"{NOTE} TeCoA learns from the labels of the training photos; FARE and LORE see none.",
    panels=against_robust(tuple(Line(arm, (arm,), spread=False) for arm in TECOA_ARMS), "{}, %"),
    picture="clean against robust accuracy",
    claims=(
        *(Claim(f"{one} keeps more than TeCoA and is no less robust", keeps_more(one, BARE)) for one in HELD),
        Claim("a constraint on embeddings helps TeCoA more than one on class distributions", keeps_more(*HELD)),
    ),
)

STUDIES = (
    Study(
        "lore-front",
        "LORE, FARE and a fixed penalty",
        f"{PAPER}: LORE's front of clean and robust accuracy lies above a fixed penalty's and FARE's.",
        38,
        FRONT,
    ),
    Study(
        "lore-tried",
        "What else was tried for LORE's front",
        "The same comparison with twice the learning rate, two and four times the steps, embeddings of length 1.",
        34,
        TRIED,
        ONE_SEED,
    ),
    Study(
        "lore-k",
        "Updates per step",
        f"{PAPER}: a larger K lowers clean accuracy and raises robust accuracy.",
        12,
        K,
        ONE_SEED,
    ),
    Study(
        "lore-tecoa",
        "TeCoA under constraints",
        f"{PAPER}: a constraint on embeddings helps TeCoA most, one on class distributions less.",
        22,
        TECOA,
    ),
)
