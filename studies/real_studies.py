"""Studies on a real tower as tables of settings: `seaanchor-lite`, whose trunk others trained on ImageNet."""

from dataclasses import replace

from seaanchor.config.recipes import dpo_lite, dpo_lore_lite, ipo_lite, kto_lite, ppo_lite, typographic_ce_lite
from seaanchor.config.schema import RunConfig
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import Column, share, value
from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Line, Panel, SetColumns, Study
from studies.pools import GIVEN, REAL_ALIKE, REAL_WORDS
from studies.real_arms import (
    ATTACK_STEPS,
    BASE,
    DIVERSE_STEPS,
    FARE,
    RADIUS,
    STEPS,
    TEST,
    TRAIN,
    UPDATES,
    WEIGHTS,
    real_fare,
    real_lore,
    real_penalty,
    real_specs,
)
from studies.rows import UNTOUCHED
from studies.workspace import ELSEWHERE, SEEDS, TWO_SEEDS

CLEAN, HALF, ROBUST = "photos clean %", "photos 1/255 %", f"photos {RADIUS}/255 %"
ATTACKED = f"apgd-ce {RADIUS}/255"
ELSEWHERE_ATTACKED = "apgd-ce 1/255"

# ---- real-front: LORE, FARE and a fixed penalty at equal photos, attacks and updates
LORE, PENALTY = "LORE ρ=0.1", "penalty w=1"
PENALTIES = {f"penalty w={weight:g}": real_penalty(weight) for weight in WEIGHTS}
FRONT_ARMS = {FARE: real_fare(), LORE: real_lore(0.1)} | PENALTIES
COLUMNS: tuple[Column | SetColumns, ...] = (
    share(CLEAN, "clean", TEST),
    share(HALF, "apgd-ce 1/255", TEST),
    share(ROBUST, ATTACKED, TEST),
    SetColumns((("{set} clean %", "clean"), ("{set} 1/255 %", ELSEWHERE_ATTACKED))),
    value("drift", "drift.distance.mean", dataset=TEST),
)

NOTE = (
    f"`{BASE}` at 128 pixels, `{TRAIN}` (800 photos). Training: {STEPS} steps of 32 photos, ε = {RADIUS}/255, "
    f"three attack steps, {UPDATES} updates a step for every method, learning rate 5e-4, scales of normalisations "
    f"folded. Numbers: {{seeds}}; {{counts}}; APGD-CE with {ATTACK_STEPS} steps. *Drift*: mean squared distance of "
    "clean embeddings from the reference's, relative to their squared length."
)

FRONT = Design(
    pool=REAL_ALIKE,
    photos=TEST,
    arms=FRONT_ARMS,
    specs=real_specs(),
    columns=COLUMNS,
    note=NOTE,
    panels=(
        Panel(
            "Clean against robust: {set}",
            f"robust accuracy on photos at {RADIUS}/255, %",
            "{set} clean, %",
            (
                Line("LORE", (LORE,), spread=False),
                Line("fixed penalty, from w = 3 to FARE (w = 0)", (*reversed(PENALTIES), FARE), "path", spread=False),
            ),
            ROBUST,
            "{set} clean %",
            photos="photos",
            each_set=True,
        ),
    ),
    picture="clean against robust accuracy on a real tower",
    claims=(
        *(
            Claim(
                f"on a real tower LORE keeps more clean accuracy than {what} and is no less robust",
                (
                    Contrast("photos, clean", LORE, other, "clean", TEST),
                    Contrast("1/255", LORE, other, "apgd-ce 1/255", TEST, wanted=0),
                    Contrast(f"{RADIUS}/255", LORE, other, ATTACKED, TEST, wanted=0),
                ),
            )
            for what, other in (("FARE", FARE), ("a fixed penalty of weight 1", PENALTY))
        ),
        Claim(
            "on a real tower LORE lies above the front of a fixed penalty",
            (
                EachSet(
                    (AboveCurve("{set}", (LORE,), (UNTOUCHED, *reversed(PENALTIES), FARE), ATTACKED, "clean"),),
                    photos="photos",
                ),
            ),
        ),
    ),
)

# ---- real-diverse: the same on photos of other things than those that are measured
DIVERSE_ARMS = {
    FARE: real_fare(max_steps=DIVERSE_STEPS),
    **{f"LORE ρ={rho:g}": real_lore(rho, max_steps=DIVERSE_STEPS) for rho in (0.1, 0.05)},
    PENALTY: real_penalty(1.0, max_steps=DIVERSE_STEPS),
}

DIVERSE = Design(
    pool=GIVEN,
    photos=TEST,
    arms=DIVERSE_ARMS,
    specs=real_specs(),
    columns=COLUMNS,
    note=(
        f"`{BASE}` at 128 pixels, {{train}} of other things than those of the test photos. Training: {DIVERSE_STEPS} "
        f"steps of 32 photos, ε = {RADIUS}/255, three attack steps, {UPDATES} updates a step for every method, "
        f"learning rate 5e-4, scales of normalisations folded. Numbers: {{seeds}}; {{counts}}; APGD-CE with "
        f"{ATTACK_STEPS} steps. *Drift* of the photos' clean embeddings, squared and relative to their squared length."
    ),
    panels=(
        Panel(
            "Clean against robust: {set}",
            "robust accuracy on photos at 1/255, %",
            "{set} clean, %",
            tuple(Line(name, (name,), spread=False) for name in DIVERSE_ARMS),
            HALF,
            "{set} clean %",
            photos="photos",
            each_set=True,
        ),
    ),
    picture="clean against robust accuracy of a real tower that was trained on other photos",
    claims=tuple(
        Claim(
            f"on diverse photos {what} keeps more clean accuracy than FARE and is no less robust",
            tuple(
                contrast
                for name in arms
                for contrast in (
                    Contrast(f"{name}: clean", name, FARE, "clean", TEST),
                    Contrast("1/255", name, FARE, "apgd-ce 1/255", TEST, wanted=0),
                )
            ),
        )
        for what, arms in (("LORE", ("LORE ρ=0.1", "LORE ρ=0.05")), ("a fixed penalty", ("penalty w=1",)))
    ),
)

# ---- real-words: every objective against drawn words, with words and fonts that no fine-tuning saw
DRAWN = EvaluationSpec(
    (TEST,), Protocol((), suites=("typographic", "reading"), typographic=TypographicPlan("odd", "unseen"))
)
T, O, READING = "T, word drawn %", "O, clean %", "reading %"  # noqa: E741 # the paper's letters
DRAWN_ON = "typographic.attacked"


def _words(recipe: RunConfig) -> RunConfig:
    return replace(recipe, average="none", device="cpu")


TOWERS = {
    "CE": _words(typographic_ce_lite()),
    "DPO + KL": _words(dpo_lite()),
    "IPO + KL": _words(ipo_lite()),
    "KTO + KL": _words(kto_lite()),
    "PPO + KL": _words(ppo_lite()),
    "DPO + Lagrangian": _words(dpo_lore_lite()),
}
PREFERENCE = ("DPO + KL", "IPO + KL", "KTO + KL", "PPO + KL")

WORDS = Design(
    pool=REAL_WORDS,
    photos=TEST,
    arms=TOWERS,
    specs=(DRAWN, EvaluationSpec((ELSEWHERE,), Protocol((), samples=1000))),
    columns=(
        share(O, "typographic.clean", TEST),
        share(T, DRAWN_ON, TEST),
        share("drawn word wins %", "typographic.attack_word", TEST),
        share("object above word %", "typographic.two_way", TEST),
        share("unreadable cover %", "typographic.unreadable", TEST),
        share(READING, "reading.reading", TEST),
        SetColumns((("{set} %", "clean"),)),
    ),
    note=(
        f"`{BASE}` at 128 pixels, `{TRAIN}` (800 photos, with labels); the recipes `typographic-ce-lite`, `dpo-lite`, "
        "`ipo-lite`, `kto-lite`, `ppo-lite` and, under LORE's constraint, `dpo-lore-lite`. The attack draws words "
        "of odd number in unseen fonts (training: even number, training fonts). *Unreadable cover*: the same box and "
        "colours with glyphs that nobody can read. Last weights, not averaged; {seeds}; {counts}."
    ),
    panels=(
        Panel(
            "What the cure costs",
            "accuracy on clean photos, %",
            "accuracy with a wrong word drawn, %",
            (
                Line("untouched", (UNTOUCHED,), spread=False, shapes=(UNTOUCHED,)),
                Line("tower", tuple(TOWERS), spread=False, shapes=tuple(TOWERS)),
            ),
            O,
            T,
        ),
    ),
    picture="clean accuracy against accuracy with a wrong word drawn on a real tower",
    claims=(
        Claim(
            "on a real tower preference optimization raises accuracy under drawn words and keeps clean accuracy",
            tuple(
                contrast
                for name in PREFERENCE
                for contrast in (
                    Contrast(f"{name}: T", name, UNTOUCHED, DRAWN_ON, TEST),
                    Contrast("clean", name, UNTOUCHED, "typographic.clean", TEST, wanted=0),
                )
            ),
        ),
        Claim(
            "on a real tower DPO under LORE's constraint helps as much as DPO with KL and retains more elsewhere",
            (
                Contrast("T", "DPO + Lagrangian", "DPO + KL", DRAWN_ON, TEST, wanted=0),
                EachSet((Contrast("{set}", "DPO + Lagrangian", "DPO + KL", "clean"),), photos=""),
                Contrast("reading", "DPO + Lagrangian", "DPO + KL", "reading.reading", TEST),
            ),
        ),
        Claim(
            "on a real tower preference optimization retains more elsewhere than cross-entropy and helps as much",
            tuple(
                effect
                for name in PREFERENCE
                for effect in (
                    Contrast(f"{name}: T", name, "CE", DRAWN_ON, TEST, wanted=0),
                    EachSet((Contrast("{set}", name, "CE", "clean"),), photos=""),
                )
            ),
        ),
    ),
)

STUDIES = (
    Study(
        "real-front",
        "A real tower: LORE, FARE and a fixed penalty",
        "arXiv 2505.18884: LORE keeps more clean accuracy than FARE and than a fixed penalty, and is as robust.",
        225,
        FRONT,
        SEEDS,
    ),
    Study(
        "real-diverse",
        "A real tower: diverse photos",
        "Hardening on unlabelled photos of other things than those that are measured: `--extra train=FOLDER`.",
        200,
        DIVERSE,
        TWO_SEEDS,
    ),
    Study(
        "real-words",
        "A real tower: typographic attacks",
        "arXiv 2411.08923, table 1: preference optimization raises accuracy under typographic attacks and keeps clean "
        "accuracy.",
        120,
        WORDS,
        TWO_SEEDS,
    ),
)
