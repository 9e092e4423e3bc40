"""What is retained on a real tower at equal accuracy under typographic attacks (arXiv 2411.08923)."""

from seaanchor.sweeps.tables import share
from studies.declare import Design, Mixtures, Study
from studies.pools import REAL_WORDS
from studies.real_arms import BASE, TEST, TRAIN
from studies.real_studies import DRAWN, PREFERENCE, TOWERS
from studies.word_studies import ALPHAS, MIXED, PAPER, at_equal, retained, retains
from studies.word_tables import ATTACKED, READING, SET_COLUMNS, THOUSAND_ELSEWHERE, O, T

HELD = "DPO + Lagrangian"

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
    note=f"`{BASE}` at 128 pixels, `{TRAIN}`, the runs of the table of objectives. {MIXED}",
    panels=(retained(TOWERS),),
    picture="accuracy elsewhere against accuracy with a wrong word drawn on a real tower",
    claims=tuple(
        retains(f"on a real tower {what} at equal T", base, others)
        for what, base, others in (
            ("preference optimization retains more than cross-entropy", "CE", PREFERENCE),
            ("DPO under LORE's constraint retains more than DPO with KL", "DPO + KL", (HELD,)),
            ("DPO under LORE's constraint retains more than cross-entropy", "CE", (HELD,)),
        )
    ),
    mixtures=Mixtures(ALPHAS, alone=True),
    after_table=at_equal,
)

STUDIES = (
    Study(
        "real-retention",
        "A real tower: what is retained",
        f"{PAPER}: preference optimization retains more of a model than cross-entropy does.",
        150,
        RETENTION,
        (1,),  # of which the trained weights were kept
    ),
)
