"""What is retained on a real tower at equal accuracy under typographic attacks (arXiv 2411.08923)."""

from seaanchor.sweeps.tables import share
from studies.declare import AboveCurve, Claim, Contrast, Design, EachSet, Mixtures, Study
from studies.mixing import mixture
from studies.pools import REAL_WORDS
from studies.real_arms import BASE, IN_BF16, TEST, TRAIN
from studies.real_studies import DRAWN, PREFERENCE, TOWERS
from studies.word_studies import ALPHAS, MIXED, PAPER, at_equal, curve, retained, retains
from studies.word_tables import ATTACKED, READING, SET_COLUMNS, THOUSAND_ELSEWHERE, O, T

HELD = "DPO + Lagrangian"
CHOSEN = 0.6  # α; on photos/validation right under drawn words as the trained models are; 0.3 loses up to 4 points


def _keeps_as_right(name: str) -> tuple[Contrast | EachSet, ...]:
    """The mixture against the trained model: no less accurate under drawn words, more elsewhere and in reading."""
    one, other = mixture(name, CHOSEN), mixture(name, 1.0)
    return (
        Contrast(f"{name}: T", one, other, ATTACKED, TEST, wanted=0),
        EachSet((Contrast("{set}", one, other, "clean"),), photos=""),
        Contrast("reading", one, other, "reading.reading", TEST),
    )


def _retains_at_each(claim: str, base: str, other: str) -> Claim:
    """Each mixture of a method, not the most accurate one alone: curves that bend back have two points at one T."""
    return Claim(
        claim,
        tuple(
            EachSet(
                (AboveCurve("{arm} on {set}", (mixture(other, alpha),), curve(base), ATTACKED, "clean"),), photos=""
            )
            for alpha in ALPHAS
        ),
    )


RETENTION = Design(
    pool=REAL_WORDS,
    photos=TEST,
    arms=TOWERS,
    specs=(DRAWN, THOUSAND_ELSEWHERE),
    columns=(
        share(T, ATTACKED, TEST),
        share(O, "typographic.clean", TEST),
        share(READING, "reading.reading", TEST),
        SET_COLUMNS,
    ),
    note=(
        f"`{BASE}` at 128 pixels, `{TRAIN}`, the runs of the table of objectives. {MIXED} α = {CHOSEN:g} of the "
        "last claim was chosen on `photos/validation`."
    ),
    panels=(retained(TOWERS),),
    picture="accuracy elsewhere against accuracy with a wrong word drawn on a real tower",
    claims=(
        retains("on a real tower preference optimization retains more than cross-entropy at equal T", "CE", PREFERENCE),
        *(
            _retains_at_each(
                f"on a real tower DPO under LORE's constraint retains more than {what} at equal T", base, HELD
            )
            for what, base in (("DPO with KL", "DPO + KL"), ("cross-entropy", "CE"))
        ),
        Claim(
            f"on a real tower {CHOSEN:g} of the trained weights and {1 - CHOSEN:g} of the reference's are as "
            "right under drawn words and keep more",
            tuple(effect for name in TOWERS for effect in _keeps_as_right(name)),
        ),
    ),
    mixtures=Mixtures(ALPHAS, alone=True),
    after_table=at_equal,
)

STUDIES = (
    Study(
        "real-retention",
        "A real tower: what is retained",
        f"{PAPER}: preference optimization retains more of a model than cross-entropy does.",
        120,
        RETENTION,
        IN_BF16,
    ),
)
