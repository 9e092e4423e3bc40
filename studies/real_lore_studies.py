"""Further studies of LORE on a real tower as tables of settings: its multipliers, a bound that falls, fewer updates."""

from dataclasses import replace
from typing import Any

from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec
from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Line, SetColumns, Study
from studies.lore_studies import PAPER
from studies.pools import REAL_ALIKE, REAL_CLEAN
from studies.real_arms import (
    FARE,
    IN_BF16,
    LOW_RATE,
    RADIUS,
    TEST,
    UPDATES,
    real_fare,
    real_lore,
    real_penalty,
    real_specs,
)
from studies.real_studies import ATTACKED, COLUMNS, FRONT, FRONT_ARMS, LORE, NOTE, PENALTIES, PENALTY
from studies.rows import UNTOUCHED
from studies.workspace import ELSEWHERE

# ---- real-duals: what moves LORE's multipliers, at one ρ, and how often a batch is used
CONTROLS: dict[str, tuple[str, dict[str, Any]]] = {
    # the rate of docs/LOG.md, for embeddings of a third of that tower's squared length
    "pi": (
        "proportional-integral control",
        {"dual_control": "pi", "dual_lr": 3e-5, "dual_proportional": 100.0},
    ),
    "Adam 5e-4": ("the paper's rate of the multipliers", {"dual_lr": 5e-4}),
    "table": ("a multiplier for each photo", {"dual": "table", "dual_lr": 10.0}),
    "linear": ("a linear dual", {"dual": "linear"}),
    # Adam moves a lone parameter by about its rate, and a network's output by far more
    "scalar": ("one multiplier for all photos", {"dual": "scalar", "dual_lr": 1e-2}),
    "ρ from 0.4": ("a ρ that falls", {"dual_lr": 5e-4, "rho_start": 0.4, "rho_steps": 60}),
}
CONTROLLED = {f"{LORE}, {name}": real_lore(0.1, held=held) for name, (_, held) in CONTROLS.items()}
ONCE, FARE_ONCE = f"{LORE}, one update", f"{FARE}, one update"
PENALTIES_ONCE = {f"penalty w={weight:g}, one update": real_penalty(weight, primal_steps=1) for weight in (1.0, 3.0)}
ONCE_ARMS = {FARE_ONCE: real_fare(primal_steps=1), ONCE: real_lore(0.1, primal_steps=1)} | PENALTIES_ONCE
PENALTY_FRONT = (UNTOUCHED, *reversed(PENALTIES), FARE)
# LORE lies between the penalties of weight 1 and 3, far from either
BETWEEN = "penalty w=2, one update"
FRONT_ONCE = (*(f"penalty w={weight}, one update" for weight in (3, 2, 1)), FARE_ONCE)

DUALS = Design(
    pool=REAL_ALIKE,
    photos=TEST,
    arms=CONTROLLED | ONCE_ARMS | FRONT_ARMS,
    specs=real_specs(),
    columns=COLUMNS,
    note=(
        f"{NOTE} λ starts at 2 and is at most 20. *{LORE}*: a dual network, Adam at 1e-4; the paper's rate is 5e-4. "
        "*table*: a λ for each photo, to which 10 times its relative violation is added at each visit. *pi*: nuPI at "
        "3e-5, κ = 100. *linear*: Adam at 1e-4, *scalar*: at 0.01. *ρ from 0.4*: ρ falls in 60 steps, Adam at 5e-4. "
        "*One update*: K = 1."
    ),
    panels=(
        replace(
            FRONT.panels[0],
            lines=(
                *FRONT.panels[0].lines,
                *(Line(name, (name,), spread=False) for name in (*CONTROLLED, ONCE)),
                Line("fixed penalty to FARE, one update", (*reversed(PENALTIES_ONCE), FARE_ONCE), "path", spread=False),
            ),
        ),
    ),
    picture="clean against robust accuracy of LORE with other multipliers on a real tower",
    claims=(
        *(
            Claim(
                f"on a real tower LORE with {what} lies above the front of a fixed penalty",
                (
                    EachSet(
                        (AboveCurve("{set}", (f"{LORE}, {name}",), PENALTY_FRONT, ATTACKED, "clean"),), photos="photos"
                    ),
                ),
            )
            for name, (what, _) in CONTROLS.items()
        ),
        Claim(
            "on a real tower a second update a step makes LORE more robust and costs clean accuracy",
            (
                Contrast(f"{RADIUS}/255, K = 2 less K = 1", LORE, ONCE, ATTACKED, TEST),
                EachSet((Contrast("clean, K = 1 less K = 2, {set}", ONCE, LORE, "clean"),), photos="photos"),
            ),
        ),
        Claim(
            "on a real tower a penalty with one update a step lies above the front of penalties with two",
            (
                EachSet(
                    (AboveCurve("{set}", (f"{PENALTY}, one update",), PENALTY_FRONT, ATTACKED, "clean"),),
                    photos="photos",
                ),
            ),
        ),
    ),
)

# ---- real-anneal, real-once: a bound that falls, and one update a step, against penalties, on more photos of each set
FALLING = f"{LORE}, ρ from 0.4"
MORE_PHOTOS = (real_specs()[0], EvaluationSpec((ELSEWHERE,), Protocol((), samples=2000)))
CLEAN_COLUMNS = (*COLUMNS[:3], SetColumns((("{set} clean %", "clean"),)), COLUMNS[-1])

ANNEAL = Design(
    pool=REAL_CLEAN,
    photos=TEST,
    arms={FALLING: CONTROLLED[FALLING]} | FRONT_ARMS,
    specs=MORE_PHOTOS,
    columns=CLEAN_COLUMNS,
    note=f"{NOTE} *ρ from 0.4*: ρ falls geometrically from 0.4 to 0.1 in 60 steps, Adam at 5e-4.",
    panels=(replace(FRONT.panels[0], lines=(*FRONT.panels[0].lines, Line(FALLING, (FALLING,), spread=False))),),
    picture="clean against robust accuracy of LORE with a bound that falls on a real tower",
    claims=tuple(
        Claim(
            f"on a real tower LORE with {what} lies above the front of a fixed penalty on photos of other things",
            (EachSet((AboveCurve("{set}", (arm,), PENALTY_FRONT, ATTACKED, "clean"),), photos="photos"),),
        )
        for what, arm in (("a ρ that falls from 0.4", FALLING), ("a constant ρ", LORE))
    ),
)

ARMS_ONCE = ONCE_ARMS | {BETWEEN: real_penalty(2.0, primal_steps=1)}
ONCE_A_STEP = Design(
    pool=REAL_CLEAN,
    photos=TEST,
    arms=ARMS_ONCE,
    specs=MORE_PHOTOS,
    columns=CLEAN_COLUMNS,
    note=NOTE.replace(f"{UPDATES} updates", "one update"),
    panels=(
        replace(
            FRONT.panels[0],
            lines=(
                Line("LORE", (ONCE,), spread=False),
                Line("fixed penalty, from w = 3 to FARE (w = 0)", FRONT_ONCE, "path", spread=False),
            ),
        ),
    ),
    picture="clean against robust accuracy of a real tower after one update a step",
    claims=(
        Claim(
            "on a real tower with one update a step LORE lies above the front of a fixed penalty",
            (EachSet((AboveCurve("{set}", (ONCE,), (UNTOUCHED, *FRONT_ONCE), ATTACKED, "clean"),), photos="photos"),),
        ),
        Claim(
            "on a real tower with one update a step LORE keeps more clean accuracy than FARE and is no less robust",
            (
                EachSet((Contrast("clean, {set}", ONCE, FARE_ONCE, "clean"),), photos="photos"),
                Contrast(f"{RADIUS}/255", ONCE, FARE_ONCE, ATTACKED, TEST, wanted=0),
            ),
        ),
    ),
)

# ---- real-rate: a fifth of the learning rate
LOW = "lr 1e-4"
FARE_LOW = f"{FARE}, {LOW}"
RHOS_LOW = (0.1, 0.05, 0.03)
LORES_LOW = {f"LORE ρ={rho:g}, {LOW}": real_lore(rho, lr=LOW_RATE) for rho in RHOS_LOW}
PENALTIES_LOW = {f"penalty w={w:g}, {LOW}": real_penalty(w, lr=LOW_RATE) for w in (2.0, 1.0, 0.5)}
FRONT_LOW = (*PENALTIES_LOW, FARE_LOW)

RATE = Design(
    pool=REAL_CLEAN,
    photos=TEST,
    arms={FARE_LOW: real_fare(lr=LOW_RATE)}
    | LORES_LOW
    | PENALTIES_LOW
    | {name: ARMS_ONCE[name] for name in FRONT_ONCE}
    | FRONT_ARMS,
    specs=MORE_PHOTOS,
    columns=CLEAN_COLUMNS,
    note=f"{NOTE} *{LOW}*: of learning, in place of 5e-4. *One update*: K = 1.",
    panels=(
        replace(
            FRONT.panels[0],
            lines=(
                *FRONT.panels[0].lines,
                Line(f"LORE over ρ, {LOW}", tuple(LORES_LOW), "path", spread=False),
                Line(f"fixed penalty to FARE, {LOW}", FRONT_LOW, "path", spread=False),
                Line("fixed penalty to FARE, one update", FRONT_ONCE, "path", spread=False),
            ),
        ),
    ),
    picture="clean against robust accuracy of a real tower at two learning rates",
    claims=(
        Claim(
            "on a real tower at a fifth of the learning rate LORE lies above the front of a fixed penalty",
            tuple(
                EachSet(
                    (AboveCurve(f"ρ = {rho:g}, {{set}}", (arm,), (UNTOUCHED, *FRONT_LOW), ATTACKED, "clean"),),
                    photos="photos",
                )
                for rho, arm in zip(RHOS_LOW, LORES_LOW, strict=True)
            ),
        ),
        Claim(
            "on a real tower FARE at a fifth of the learning rate lies above a penalty's front with one update a step",
            # not above that of penalties with two, whose points lie far from it: docs/LOG.md
            (
                EachSet(
                    (AboveCurve("{set}", (FARE_LOW,), (UNTOUCHED, *FRONT_ONCE), ATTACKED, "clean"),), photos="photos"
                ),
            ),
        ),
    ),
)

STUDIES = (
    Study(
        "real-duals",
        "A real tower: other multipliers",
        "LORE with multipliers that arrive sooner, at the budget of the front, and with one update a step.",
        160,
        DUALS,
        IN_BF16[:1],
    ),
    Study(
        "real-anneal",
        "A real tower: a bound that falls",
        "LORE whose ρ falls from the drift that the objective alone would make, at the budget of the front.",
        130,
        ANNEAL,
        IN_BF16,
    ),
    Study(
        "real-rate",
        "A real tower: a lower learning rate",
        "LORE over ρ, FARE and a fixed penalty at a fifth of the learning rate, beside those at all of it.",
        190,
        RATE,
        IN_BF16,
    ),
    Study(
        "real-once",
        "A real tower: one update a step",
        f"{PAPER}: LORE beats FARE and a fixed penalty. Here each photo's attack serves one update in place of two.",
        85,
        ONCE_A_STEP,
        IN_BF16,
    ),
)
