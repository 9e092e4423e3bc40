"""Studies of typographic attacks and noise at once: one model against both, and an attacker with both means against
every model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from seaanchor.config.recipes import dpo_linear_tiny, dpo_tiny
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.steering.export import export_at
from seaanchor.sweeps.arms import Arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure
from seaanchor.sweeps.tables import Column, share
from studies.declare import Claim, Contrast, Design, Line, Panel, Study
from studies.noise_arms import RHO
from studies.pools import OWN, WORDS, word_run
from studies.rows import UNTOUCHED
from studies.word_arms import SIZES, TOWERS, lagrangian
from studies.word_tables import SET_COLUMNS, THOUSAND_ELSEWHERE
from studies.workspace import ONE_SEED, PHOTOS, Workspace

ATTACKER = (
    "400 test photos. Words of odd number in unseen fonts (training: even, training fonts), noise by APGD-CE with 10 "
    "steps. *Word and noise*: the attacker knows the model, draws three words, takes the worst, and searches the ball "
    "around that picture."
)
WORD = "typographic.attacked"


@dataclass(frozen=True)
class TwoThreats:
    """A drawn word and noise, each alone and both at once, on a set of photos.

    Attributes:
        photos: labelled.
        radius: of the noise, in 255ths.
        words: which words are drawn, and how.
    """

    photos: str
    radius: int
    words: TypographicPlan

    @property
    def noise(self) -> str:
        """The measure of accuracy under noise alone."""
        return f"apgd-ce {self.radius}/255"

    @property
    def at_once(self) -> str:
        """The measure of accuracy under a word and noise."""
        return f"words-and-noise.{self.noise}"

    @property
    def spec(self) -> EvaluationSpec:
        """What is measured."""
        attack = AttackPlan("apgd-ce", "linf", (self.radius / 255,), 10)
        suites = ("typographic", "words-and-noise")
        return EvaluationSpec((self.photos,), Protocol((attack,), suites=suites, samples=400, typographic=self.words))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of a table."""
        return (
            share("clean %", "typographic.clean", self.photos),
            share("word %", WORD, self.photos),
            share("unreadable cover %", "typographic.unreadable", self.photos),
            share(f"noise {self.radius}/255 %", self.noise, self.photos),
            share("worst of 3 words %", "words-and-noise.word", self.photos),
            share("word and noise %", self.at_once, self.photos),
        )

    def panels(self, arms: Sequence[str]) -> tuple[Panel, ...]:
        """One threat against the other, and both at once against clean accuracy."""
        lines = tuple(Line(arm, (arm,)) for arm in (UNTOUCHED, *arms))
        noise = f"noise {self.radius}/255 %"
        threats = ("accuracy with a wrong word drawn, %", f"accuracy under noise of {self.radius}/255, %")
        both = ("clean accuracy, %", "accuracy under word and noise, %")
        return (
            Panel("Two threats", *threats, lines, "word %", noise),
            Panel("Both at once", *both, lines, "clean %", "word and noise %"),
        )

    def less(self, what: str, one: str, other: str, measure: str, wanted: int = 1) -> Contrast:
        """One arm less another."""
        return Contrast(f"{what}: {one} less {other}", one, other, measure, self.photos, wanted)

    def over(self, one: str, other: str = UNTOUCHED) -> Contrast:
        """One arm less another under both at once."""
        return Contrast(f"{one} less {other}", one, other, self.at_once, self.photos)


TINY = TwoThreats(PHOTOS, 1, TypographicPlan("odd", "unseen", SIZES))

# ---- joint: joint training, one threat after the other, and each alone


def _noise_tiny(recipe: RunConfig, kind: Literal["pgd", "typographic", "typographic+pgd"]) -> RunConfig:
    """100 batches of 32 photos at 64 pixels; noise of 1/255, words as `dpo-tiny` draws them."""
    attack = PerturbationConfig(
        kind, epsilon="1/255", num_steps=2, step_size="0.75/255", words="even", sizes=SIZES, variants=10
    )
    return replace(
        recipe,
        train_data="photos-mini/train",
        perturbation=attack,
        batch_size=32,
        lr=1e-3,
        warmup=10,
        epochs=4,
        max_steps=100,
        optimizer="adamw",
        wd=1e-4,
        average="none",
        save_every=100,
        log_every=10,
        device="cpu",
    )


PULL = RunConfig(objective=ObjectiveConfig("embedding_distance"))
PREFER = replace(dpo_tiny(), anchor=AnchorConfig("kl", weight=1.0))
FIRST = {
    "words alone, FARE": _noise_tiny(PULL, "typographic"),
    "noise alone, FARE": _noise_tiny(PULL, "pgd"),
    "joint, FARE": _noise_tiny(PULL, "typographic+pgd"),
    "words alone, DPO": _noise_tiny(PREFER, "typographic"),
    "joint, DPO": _noise_tiny(PREFER, "typographic+pgd"),
    "joint, FARE + Lagrangian": replace(_noise_tiny(PULL, "typographic+pgd"), anchor=lagrangian(RHO, initial=1.0)),
}
THEN = {"words by DPO, then noise": FIRST["noise alone, FARE"], "noise, then words by DPO": FIRST["words alone, DPO"]}
STARTS = {"words by DPO, then noise": "words alone, DPO", "noise, then words by DPO": "noise alone, FARE"}


JOINT = Design(
    pool=OWN,
    arms=FIRST | THEN,
    specs=(TINY.spec, THOUSAND_ELSEWHERE),
    columns=(*TINY.columns, SET_COLUMNS),
    note=(
        "`seaanchor-tiny`, `photos-mini/train`, 100 steps of 32 photos per stage, which makes 200 where there are two; "
        f"{{seeds}}. {ATTACKER}"
    ),
    panels=TINY.panels((*FIRST, *THEN)),
    picture="words against noise",
    claims=(
        Claim(
            "one model can be robust to typographic attacks and to noise at once, without loss on either",
            (
                TINY.less("noise", "joint, FARE", "noise alone, FARE", TINY.noise, 0),
                TINY.less("words", "joint, FARE", "words alone, FARE", WORD, 0),
            ),
        ),
        Claim(
            "joint training beats one after the other against word and noise together",
            tuple(TINY.less("both", "joint, FARE", other, TINY.at_once) for other in THEN),
        ),
        Claim(
            "the second of two stages undoes the first",
            (
                TINY.less("words", "words alone, DPO", "words by DPO, then noise", WORD),
                TINY.less("noise", "noise alone, FARE", "noise, then words by DPO", TINY.noise),
            ),
        ),
    ),
    starts_from=STARTS,
)

# ---- adaptive: the attacker against models aligned against words, hardened against noise, and the slider on one
HARDENED = ("seaanchor-tiny-fare", "seaanchor-tiny-lore")  # the variants that the repository holds
STEERED = f"{HARDENED[1]}, t = 1"


def _hardened(workspace: Workspace) -> list[Row]:
    """The robust models of the repository, which no seed changes, and the slider at t = 1 on the second."""
    shared, base = workspace.shared("words"), replace(dpo_tiny(), device="cpu")
    rows = [row for name in HARDENED for row in measure(Arm(name, base), -1, f"models/{name}", [TINY.spec], shared)]
    steered = replace(dpo_linear_tiny(), model=f"models/{HARDENED[1]}", device="cpu")
    workspace.keep(STEERED, steered)
    for seed in workspace.seeds:
        folder = workspace.output / f"seed-{seed}" / f"{HARDENED[1]} t=1"
        model = folder if folder.is_dir() else export_at(word_run(steered, seed, workspace), 1.0, folder)
        rows += measure(Arm(STEERED, base), seed, model, [TINY.spec], shared)
    return rows


ADAPTIVE = Design(
    pool=WORDS,
    arms=TOWERS,
    specs=(TINY.spec,),
    columns=TINY.columns,
    note=(
        "Towers of the table on typographic attacks, and the robust models of the repository (FARE with one update per "
        f"step, LORE with two); {{seeds}}. {ATTACKER}"
    ),
    panels=TINY.panels((*TOWERS, *HARDENED, STEERED)),
    picture="words against noise",
    claims=(
        Claim(
            "alignment against typographic attacks alone helps against word and noise together",
            tuple(map(TINY.over, TOWERS)),
        ),
        Claim("hardening against noise alone helps against word and noise together", tuple(map(TINY.over, HARDENED))),
        Claim(
            "the slider on a hardened tower helps against word and noise together", (TINY.over(STEERED, HARDENED[1]),)
        ),
    ),
    further_rows=_hardened,
)

STUDIES = (
    Study(
        "joint",
        "Typographic attacks and noise",
        "One model can be robust to typographic attacks and to noise at once.",
        40,
        JOINT,
    ),
    Study(
        "adaptive",
        "An attacker with a word and noise",
        "What alignment against typographic attacks and hardening against noise are worth against both at once.",
        10,
        ADAPTIVE,
        ONE_SEED,
    ),
)
