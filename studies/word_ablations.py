"""Studies that vary one setting of `dpo-tiny` (arXiv 2411.08923)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from seaanchor.config.recipes import dpo_tiny
from seaanchor.config.schema import RunConfig
from seaanchor.sweeps.arms import one
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import share
from studies.declare import Claim, Contrast, Design, Line, Panel, Study
from studies.pools import WORDS
from studies.word_arms import DRAWN, short
from studies.word_studies import PAPER
from studies.word_tables import ATTACKED, COLUMNS, READING, O, T
from studies.workspace import EMOJI, ONE_SEED, PHOTOS

UPDATES = 52  # whatever the number of photos
SHOWN = {
    O: "clean photos",
    T: "wrong word drawn",
    "drawn word wins %": "drawn word wins",
    "unreadable cover %": "unreadable cover",
    READING: "reading a word",
    "emoji %": "emoji, took no part",
}


def _less(
    label: str, one: float, other: float, measure: str = ATTACKED, dataset: str = PHOTOS, wanted: int = 1
) -> Contrast:
    """One value of the setting less another; an ablation names their arms."""
    return Contrast(label, f"{one:g}", f"{other:g}", measure, dataset, wanted)


@dataclass(frozen=True)
class Ablation:
    """One setting over several values; `named` makes the name of an arm of its value."""

    setting: str
    values: Sequence[float]
    label: str
    named: str
    claim: str
    contrasts: Sequence[Contrast]
    log: bool = True
    remark: str = ""
    base: RunConfig = field(default_factory=lambda: short(dpo_tiny()))

    def design(self) -> Design:
        """The study of it."""
        arms = {self.named.format(value): one(self.base, {self.setting: value}).config for value in self.values}
        at = tuple(self.values)
        lines = tuple(Line(name, tuple(arms), "line", at=at, y=title) for title, name in SHOWN.items())
        effects = tuple(
            replace(c, one=self.named.format(float(c.one)), other=self.named.format(float(c.other)))
            for c in self.contrasts
        )
        return Design(
            pool=WORDS,
            arms=arms,
            specs=(EvaluationSpec((PHOTOS, EMOJI), DRAWN.protocol),),
            columns=(*COLUMNS, share("emoji %", "clean", EMOJI)),
            note=(
                f"`dpo-tiny` with {UPDATES} updates and other values of `{self.setting}`, {{seeds}}. "
                f"Columns as in the table of all objectives.{self.remark}"
            ),
            panels=(Panel(f"DPO against drawn words: {self.label}", self.label, "accuracy or rate, %", lines),),
            picture=f"measures against {self.label}",
            log=self.log,
            claims=(Claim(self.claim, effects),),
        )


BETA = Ablation(
    "objective.beta",
    (0.01, 0.05, 0.1, 0.3, 1.0, 2.0),
    "β",
    "β = {:g}",
    "a larger β helps less against typographic attacks and retains more",
    (
        _less("T, β = 0.01 less β = 0.1", 0.01, 0.1),
        _less("T, β = 0.1 less β = 1", 0.1, 1.0),
        _less("reading, β = 1 less β = 0.1", 1.0, 0.1, "reading.reading"),
        _less("emoji, β = 1 less β = 0.1", 1.0, 0.1, "clean", EMOJI),
    ),
)
LAMBDA = Ablation(
    "anchor.weight",
    (0.1, 0.3, 1.0, 3.0, 10.0),
    "λ",
    "λ = {:g}",
    "a larger λ helps less against typographic attacks and retains more",
    (
        _less("T, λ = 0.1 less λ = 10", 0.1, 10.0),
        _less("reading, λ = 10 less λ = 0.1", 10.0, 0.1, "reading.reading"),
        _less("emoji, λ = 10 less λ = 0.1", 10.0, 0.1, "clean", EMOJI),
    ),
)
VARIANTS = Ablation(
    "perturbation.variants",
    (1, 3, 10),
    "drawings of each photo",
    "drawings: {:g}",
    "more drawings of each photo help against typographic attacks",
    (_less("T, 3 less 1", 3, 1), _less("T, 10 less 1", 10, 1)),
    log=False,
    remark=" Each photo is seen four times, each time with one of its drawings at random: of ten, at most four "
    "are seen.",
)
PHOTO_COUNTS = (100, 200, 400, 800)
DATA = Ablation(
    "train_samples",
    PHOTO_COUNTS,
    "training photos",
    "{:g} photos",
    "few photos are enough at an equal number of updates",
    tuple(
        _less(f"{what}, {count} photos less 800", count, 800, measure, dataset, wanted=0)
        for what, measure, dataset in (("T", ATTACKED, PHOTOS), ("emoji", "clean", EMOJI))
        for count in PHOTO_COUNTS[:-1]
    ),
    log=False,
    base=replace(short(dpo_tiny()), epochs=100, max_steps=UPDATES),
)

STUDIES = (
    Study("po-beta", "The sharpness β", f"{PAPER} sweeps β from 0.01 to 2.", 7, BETA.design(), ONE_SEED),
    Study("po-lambda", "The weight λ of the KL", f"{PAPER} sweeps λ from 0.01 to 2.", 6, LAMBDA.design(), ONE_SEED),
    Study(
        "po-variants",
        "Drawings of each image",
        f"{PAPER}: more typographic variants of each image help.",
        4,
        VARIANTS.design(),
        ONE_SEED,
    ),
    Study("po-data", "Data size", f"{PAPER}: few images are enough.", 5, DATA.design(), ONE_SEED),
)
