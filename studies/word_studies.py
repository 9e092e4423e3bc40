"""Studies of typographic attacks as tables of settings (arXiv 2411.08923, and what it does not have): every objective,
what is retained, constrained preference optimization, every anchor."""

from dataclasses import replace

from seaanchor.config.recipes import dpo_tiny, ipo_tiny, kto_tiny, typographic_ce_tiny
from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.sweeps.tables import share
from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Line, Mixtures, Panel, Results, Study
from studies.pools import WORDS
from studies.rows import UNTOUCHED
from studies.word_arms import DRAWN, MAPS, PASSES, TOWERS, lagrangian, short
from studies.word_tables import ATTACKED, COLUMNS, READING, SET_COLUMNS, T_LABEL, THOUSAND_ELSEWHERE, O, T
from studies.workspace import EMOJI, ONE_SEED, PHOTOS

PAPER = "arXiv 2411.08923"
PREFERENCE = ("DPO + KL", "IPO + KL", "KTO + KL")

# ---- typographic: every objective on the tower and on the map, with words and fonts that no training saw


def _power(adapter: str, what: str) -> Claim:
    """Against the untouched model: accuracy with a wrong word drawn, and without."""
    return Claim(
        f"preference optimization {what} raises accuracy under typographic attacks and keeps clean accuracy",
        tuple(
            contrast
            for name in PREFERENCE
            for contrast in (
                Contrast(f"{name}: T", f"{name}, {adapter}", UNTOUCHED, ATTACKED),
                Contrast("clean", f"{name}, {adapter}", UNTOUCHED, "typographic.clean", wanted=0),
            )
        ),
    )


TYPOGRAPHIC = Design(
    pool=WORDS,
    arms={f"{name}, tower": config for name, config in TOWERS.items()}
    | {f"{name}, map": config for name, config in MAPS.items()},
    specs=(DRAWN,),
    columns=COLUMNS,
    note=(
        "n = 800 photos of `photos-mini/test`. The attack draws words of odd number in unseen fonts (training: even "
        "number, training fonts). *Unreadable cover*: the same box and colours with glyphs nobody can read, which is "
        "the cost of being covered. *Gap closed*: of the way from the untouched model's T to the model's own accuracy "
        "under that cover. Towers: the recipes `typographic-ce-tiny`, `dpo-tiny`, `ipo-tiny`, `kto-tiny`, "
        f"`dpo-lore-tiny` with {PASSES} passes over the 800 training photos. Maps: `dpo-linear-tiny` (60 passes) with "
        "the objective of each tower, CE without anchor, IPO with a KL of 30, DPO + Lagrangian with its constraint on "
        "class distributions (ρ = 0.1). Last weights, not averaged; {seeds}."
    ),
    panels=(
        Panel(
            "What the cure costs",
            "accuracy on clean photos, %",
            T_LABEL,
            (
                Line("untouched", (UNTOUCHED,), spread=False, shapes=(UNTOUCHED,)),
                Line("tower", tuple(f"{name}, tower" for name in TOWERS), spread=False, shapes=tuple(TOWERS)),
                Line("linear map", tuple(f"{name}, map" for name in MAPS), spread=False, shapes=tuple(MAPS)),
            ),
            O,
            T,
        ),
    ),
    picture="clean accuracy against accuracy with a wrong word drawn",
    claims=(_power("tower", "on the tower"), _power("map", "on one linear map")),
)

# ---- retention: each model and its mixtures with the reference, read at equal accuracy under typographic attacks
ALPHAS = (0.3, 0.6, 1.0)


def _curve(name: str) -> tuple[str, ...]:
    """From the untouched model to the trained one."""
    return (UNTOUCHED, *(f"{name} α={alpha:g}" for alpha in ALPHAS))


def _retains(claim: str, base: str, others: tuple[str, ...]) -> Claim:
    """Accuracy elsewhere above another method's curve, of the mixture of each method that is most accurate under drawn
    words, at that accuracy."""
    return Claim(
        claim,
        tuple(
            EachSet((AboveCurve("{arm} on {set}", _curve(name)[1:], _curve(base), ATTACKED, "clean"),), photos="")
            for name in others
        ),
    )


def _at_equal(results: Results) -> str:
    """What every method retains at the same T: read off its curve between two mixtures, at the largest T that all
    reach."""
    titles = [*(f"{label} %" for label in results.workspace.elsewhere()), READING]
    curves = {name: [results.table[arm] for arm in _curve(name)] for name in TOWERS}
    level = min(max(c[T].mean for c in curve) for curve in curves.values())
    head = f"\nAt T = {100 * level:.1f} %, the most that all reach, between the two nearest mixtures:\n"
    lines = [head, f"| | {' | '.join(titles)} |", "|" + " --- |" * (len(titles) + 1)]
    for name, curve in curves.items():
        found = [crossing([c[T].mean for c in curve], [c[title].mean for c in curve], level) for title in titles]
        lines.append(f"| {name} | {' | '.join(f'{100 * x:.1f}' for x in found)} |")
    return "\n".join(lines) + "\n"


def crossing(x: list[float], y: list[float], level: float) -> float:
    """y where a broken line first reaches x = level, from its start.

    >>> crossing([0.0, 1.0, 3.0], [10.0, 8.0, 0.0], 2.0)
    4.0
    """
    for i in range(1, len(x)):
        if x[i] >= level > x[i - 1]:
            part = (level - x[i - 1]) / (x[i] - x[i - 1])
            return y[i - 1] + part * (y[i] - y[i - 1])
    return y[max(range(len(x)), key=lambda i: x[i])]


RETENTION = Design(
    pool=WORDS,
    arms=TOWERS,
    specs=(DRAWN, THOUSAND_ELSEWHERE),
    columns=(
        share(T, ATTACKED, PHOTOS),
        share(O, "typographic.clean", PHOTOS),
        share(READING, "reading.reading", PHOTOS),
        SET_COLUMNS,
    ),
    note=(
        "α mixes the weights of the reference (0) and of the trained model (1). So every method is a curve, which is "
        "read at equal accuracy under typographic attacks. Numbers: {seeds}; {counts}."
    ),
    panels=(
        Panel(
            "{set}",
            T_LABEL,
            "accuracy on {set}, %",
            tuple(Line(name, _curve(name), "path", spread=False) for name in TOWERS),
            T,
            "{set} %",
            each_set=True,
        ),
    ),
    picture="accuracy elsewhere against accuracy with a wrong word drawn",
    claims=(
        _retains("preference optimization retains more than cross-entropy at equal T", "CE", PREFERENCE),
        _retains(
            "DPO under LORE's constraint retains more than DPO with KL at equal T", "DPO + KL", ("DPO + Lagrangian",)
        ),
    ),
    mixtures=Mixtures(ALPHAS, alone=True),
    after_table=_at_equal,
)

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
        "typographic",
        "Typographic attacks",
        f"{PAPER}, table 1: preference optimization raises accuracy under typographic attacks and keeps clean "
        "accuracy.",
        25,
        TYPOGRAPHIC,
    ),
    Study(
        "retention",
        "What is retained",
        f"{PAPER}: preference optimization retains more of a model than cross-entropy does.",
        30,
        RETENTION,
    ),
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
