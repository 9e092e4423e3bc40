"""Studies of how fast a real tower is moved, as tables of settings: updates a step."""

from dataclasses import replace

from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Line, Study
from studies.lore_studies import PAPER
from studies.pools import REAL_ALIKE
from studies.real_arms import FARE, RADIUS, TEST, real_fare, real_lore, real_penalty, real_specs
from studies.real_lore_studies import ONCE, PENALTY_FRONT, SECOND
from studies.real_studies import ATTACKED, COLUMNS, FRONT, FRONT_ARMS, LORE, NOTE
from studies.rows import UNTOUCHED

# ---- real-once: one update a step for every method
FARE_ONCE = f"{FARE}, one update"
PENALTIES_ONCE = {f"penalty w={weight:g}, one update": real_penalty(weight, primal_steps=1) for weight in (1.0, 3.0)}
ONCE_ARMS = {FARE_ONCE: real_fare(primal_steps=1), ONCE: real_lore(0.1, primal_steps=1)} | PENALTIES_ONCE
FRONT_ONCE = (UNTOUCHED, *reversed(PENALTIES_ONCE), FARE_ONCE)
TWICE_ON_THE_WAY = tuple(name for name in PENALTY_FRONT if name != UNTOUCHED)

ONCE_A_STEP = Design(
    pool=REAL_ALIKE,
    photos=TEST,
    arms=ONCE_ARMS | FRONT_ARMS,
    specs=real_specs(),
    columns=COLUMNS,
    note=f"{NOTE} *One update*: K = 1, for the same photos and attacks.",
    panels=(
        replace(
            FRONT.panels[0],
            lines=(
                Line("LORE", (LORE,), spread=False),
                Line("fixed penalty to FARE", TWICE_ON_THE_WAY, "path", spread=False),
                Line("LORE, one update", (ONCE,), spread=False),
                Line("fixed penalty to FARE, one update", FRONT_ONCE[1:], "path", spread=False),
            ),
        ),
    ),
    picture="clean against robust accuracy of a real tower after one and two updates a step",
    claims=(
        Claim(
            "on a real tower with one update a step LORE lies above the front of a fixed penalty",
            (EachSet((AboveCurve("{set}", (ONCE,), FRONT_ONCE, ATTACKED, "clean"),), photos="photos"),),
        ),
        Claim(
            "on a real tower a penalty with one update a step lies above the front of penalties with two",
            (
                EachSet(
                    (AboveCurve("{set}", tuple(PENALTIES_ONCE)[:1], PENALTY_FRONT, ATTACKED, "clean"),),
                    photos="photos",
                ),
            ),
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

STUDIES = (
    Study(
        "real-once",
        "A real tower: one update a step",
        f"{PAPER}: LORE beats FARE and a fixed penalty. Here each photo's attack serves one update in place of two.",
        95,
        ONCE_A_STEP,
        SECOND,
    ),
)
