"""Studies of typographic attacks as tables of settings (arXiv 2411.08923): every objective, and what is retained."""

from collections.abc import Iterable

from seaanchor.sweeps.tables import share
from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Line, Mixtures, Panel, Results, Study
from studies.mixing import mixture
from studies.pools import WORDS
from studies.rows import UNTOUCHED
from studies.word_arms import DRAWN, MAPS, PASSES, TOWERS
from studies.word_tables import ATTACKED, COLUMNS, READING, SET_COLUMNS, T_LABEL, THOUSAND_ELSEWHERE, O, T
from studies.workspace import PHOTOS

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


def curve(name: str) -> tuple[str, ...]:
    """From the untouched model to the trained one."""
    return (UNTOUCHED, *(mixture(name, alpha) for alpha in ALPHAS))


def retains(claim: str, base: str, others: tuple[str, ...]) -> Claim:
    """Accuracy elsewhere above another method's curve, of the mixture of each method that is most accurate under drawn
    words, at that accuracy."""
    return Claim(
        claim,
        tuple(
            EachSet((AboveCurve("{arm} on {set}", curve(name)[1:], curve(base), ATTACKED, "clean"),), photos="")
            for name in others
        ),
    )


def at_equal(results: Results) -> str:
    """What every method retains at the same T: read off its curve between two mixtures, at the largest T that all
    reach."""
    titles = [*(f"{label} %" for label in results.workspace.elsewhere()), READING]
    names = dict.fromkeys(arm.rsplit(" α=")[0] for arm in results.table if arm != UNTOUCHED)
    curves = {name: [results.table[arm] for arm in curve(name)] for name in names}
    level = min(max(c[T].mean for c in points) for points in curves.values())
    head = f"\nAt T = {100 * level:.1f} %, the most that all reach, between the two nearest mixtures:\n"
    lines = [head, f"| | {' | '.join(titles)} |", "|" + " --- |" * (len(titles) + 1)]
    for name, points in curves.items():
        found = [crossing([c[T].mean for c in points], [c[title].mean for c in points], level) for title in titles]
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


def retained(methods: Iterable[str]) -> Panel:
    """A panel for every set elsewhere, with a curve of each method."""
    lines = tuple(Line(name, curve(name), "path", spread=False) for name in methods)
    return Panel("{set}", T_LABEL, "accuracy on {set}, %", lines, T, "{set} %", each_set=True)


MIXED = (
    "α mixes the weights of the reference (0) and of the trained model (1). So every method is a curve, which is "
    "read at equal accuracy under typographic attacks. Numbers: {seeds}; {counts}."
)
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
    note=MIXED,
    panels=(retained(TOWERS),),
    picture="accuracy elsewhere against accuracy with a wrong word drawn",
    claims=(
        retains("preference optimization retains more than cross-entropy at equal T", "CE", PREFERENCE),
        retains(
            "DPO under LORE's constraint retains more than DPO with KL at equal T", "DPO + KL", ("DPO + Lagrangian",)
        ),
    ),
    mixtures=Mixtures(ALPHAS, alone=True),
    after_table=at_equal,
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
)
