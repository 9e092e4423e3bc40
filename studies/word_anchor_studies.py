"""Studies of anchors for objectives against typographic attacks, as tables of settings: constrained preference
optimization, and every anchor."""

from dataclasses import replace

from seaanchor.config.recipes import dpo_tiny, ipo_tiny, kto_tiny, typographic_ce_tiny
from seaanchor.config.schema import AnchorConfig, RunConfig
from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Line, Panel, Study
from studies.pools import WORDS
from studies.rows import UNTOUCHED
from studies.word_arms import DRAWN, PASSES, lagrangian, short
from studies.word_tables import ATTACKED, COLUMNS, READING, SET_COLUMNS, T_LABEL, THOUSAND_ELSEWHERE, O, T
from studies.workspace import EMOJI, ONE_SEED

# ---- constrained: DPO held by KL, by a penalty, and by LORE's constraint: the whole front of each
DPO = short(dpo_tiny())
BOUNDS = (0.4, 0.2, 0.1, 0.05)
HELD: dict[str, dict[str, RunConfig]] = {
    "DPO + KL": {
        f"DPO + KL λ={weight:g}": replace(DPO, anchor=AnchorConfig("kl", weight=weight))
        for weight in (0.1, 0.3, 1.0, 3.0, 10.0)
    },
    "DPO + penalty": {
        f"DPO + penalty w={weight:g}": replace(DPO, anchor=AnchorConfig("penalty", weight=weight))
        for weight in (0.001, 0.004)
    },
    "DPO + Lagrangian": {f"DPO + Lagrangian ρ={rho:g}": replace(DPO, anchor=lagrangian(rho)) for rho in BOUNDS},
}
HELD_LINES = tuple(Line(family, tuple(members), "path") for family, members in HELD.items())

CONSTRAINED = Design(
    pool=WORDS,
    arms={name: config for family in HELD.values() for name, config in family.items()},
    specs=(DRAWN, THOUSAND_ELSEWHERE),
    columns=(*COLUMNS, SET_COLUMNS),
    note=(
        f"`dpo-tiny` with {PASSES} passes, last weights. *w*: weight of a fixed penalty on embeddings. Columns as in "
        "the table of all objectives; {seeds}."
    ),
    panels=(
        Panel("O, clean against T", T_LABEL, "O, clean, %", HELD_LINES, T, O),
        Panel("reading against T", T_LABEL, "reading, %", HELD_LINES, T, READING),
        Panel("{set} against T", T_LABEL, "{set}, %", HELD_LINES, T, "{set} %", each_set=True),
    ),
    picture="what is kept against accuracy with a wrong word drawn",
    claims=tuple(
        Claim(
            f"DPO under LORE's constraint keeps more than DPO with {what} at equal accuracy under typographic attacks",
            (
                EachSet(
                    tuple(
                        AboveCurve(
                            f"{{set}} at ρ = {rho:g}",
                            (f"DPO + Lagrangian ρ={rho:g}",),
                            (UNTOUCHED, *reversed(HELD[other])),
                            ATTACKED,
                            "clean",
                        )
                        for rho in BOUNDS
                    ),
                    photos_measure="typographic.clean",
                    photos_last=True,
                ),
            ),
        )
        for other, what in (("DPO + KL", "KL"), ("DPO + penalty", "a fixed penalty on embeddings"))
    ),
)

# ---- word-anchors: every anchor for the objectives against words
# recipe, and how steep its loss is at the start, so that an anchor weighs about as much beside each
OBJECTIVES = {
    "CE": (typographic_ce_tiny(), 1.0),
    "DPO": (dpo_tiny(), 0.1),
    "IPO": (ipo_tiny(), 100.0),
    "KTO": (kto_tiny(), 0.1),
}
ANCHORS = ("none", "penalty", "KL", "Lagrangian on embeddings", "Lagrangian on distributions")


def _anchored(name: str) -> dict[str, RunConfig]:
    """An objective under every anchor."""
    recipe, scale = OBJECTIVES[name]
    anchors = (
        AnchorConfig(),
        AnchorConfig("penalty", weight=0.01 * scale),
        recipe.anchor if name != "CE" else AnchorConfig("kl", weight=scale),
        lagrangian(0.1, initial=0.003 * scale),
        lagrangian(0.1, "distribution", initial=0.1 * scale),
    )
    return {f"{name} + {kind}": replace(short(recipe), anchor=a) for kind, a in zip(ANCHORS, anchors, strict=True)}


ANCHOR_LINES = tuple(
    Line(kind, tuple(f"{name} + {kind}" for name in OBJECTIVES), spread=False, shapes=tuple(OBJECTIVES))
    for kind in ANCHORS
)

WORD_ANCHORS = Design(
    pool=WORDS,
    arms={arm: config for name in OBJECTIVES for arm, config in _anchored(name).items()},
    specs=(DRAWN, THOUSAND_ELSEWHERE),
    columns=(*COLUMNS, SET_COLUMNS),
    note=(
        f"The recipes of the table on typographic attacks with {PASSES} passes and one strength of each anchor: this "
        "compares settings, not fronts. CE: penalty 0.01, KL 1, ρ = 0.1 on embeddings with λ from 0.003 or on "
        "distributions with λ from 0.1. DPO and KTO: a tenth of that penalty and λ. IPO: a hundred times as much, "
        "after how steep the losses start. KL as in the recipes; {seeds}."
    ),
    panels=(
        Panel("O, clean against T", T_LABEL, "O, clean, %", ANCHOR_LINES, T, O),
        Panel("emoji against T", T_LABEL, "emoji, %", ANCHOR_LINES, T, "emoji %"),
    ),
    picture="anchors compared",
    claims=tuple(
        Claim(
            f"{kind} retains more for {', '.join(OBJECTIVES)} and is no weaker against typographic attacks",
            tuple(
                contrast
                for name in OBJECTIVES
                for contrast in (
                    Contrast(f"{name} on emoji", f"{name} + {kind}", f"{name} + none", "clean", EMOJI),
                    Contrast(f"{name} under words", f"{name} + {kind}", f"{name} + none", ATTACKED, wanted=0),
                )
            ),
        )
        for kind in ANCHORS[1:]
    ),
)

STUDIES = (
    Study(
        "constrained",
        "Constrained preference optimization",
        "DPO under LORE's constraint keeps more than DPO with KL at equal accuracy under typographic attacks.",
        25,
        CONSTRAINED,
    ),
    Study(
        "word-anchors",
        "Anchors against typographic attacks",
        "Which anchor helps CE, DPO, IPO and KTO most?",
        23,
        WORD_ANCHORS,
        ONE_SEED,
    ),
)
