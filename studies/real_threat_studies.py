"""Studies of other threats on a real tower: Square, noise and corruptions; words and noise at once; a tower without
texts, by its own classifier."""

from dataclasses import replace
from typing import Any

from seaanchor.config.recipes import dpo_lore_lite
from seaanchor.config.schema import RunConfig
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.sweeps.arms import Arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure
from seaanchor.sweeps.tables import share, value
from studies.declare import Claim, Contrast, Design, Line, Panel, SetColumns, Study
from studies.lore_studies import PAPER
from studies.other_perturbations_study import more_accurate, perturbed
from studies.pools import GIVEN, OWN, REAL
from studies.real_arms import ATTACK_STEPS, BASE, FARE, RADIUS, STEPS, TEST, UPDATES, real_fare, real_lore, real_penalty
from studies.real_studies import LORE, PENALTY
from studies.rows import UNTOUCHED
from studies.threat_studies import ATTACKER, WORD, TwoThreats
from studies.workspace import ELSEWHERE, TWO_SEEDS, Workspace

NOISE_ARMS = {FARE: real_fare(), LORE: real_lore(0.1), PENALTY: real_penalty(1.0)}

# ---- real-other: the front's arms under what no training saw
OTHER = perturbed(
    REAL,
    NOISE_ARMS,
    TEST,
    (1, RADIUS),
    tuple(
        Claim(
            f"on a real tower {what} is more accurate than {than} under Square, Gaussian noise and corruptions",
            more_accurate(one, other, TEST, RADIUS),
        )
        for what, one, than, other in (
            ("LORE", LORE, "FARE", FARE),
            ("LORE", LORE, "the untouched model", UNTOUCHED),
        )
    ),
    f"`{BASE}` at 128 pixels, trained as for the front. ",
)

# ---- real-joint: words and noise in one training, one after the other, and each alone
REAL_THREATS = TwoThreats(TEST, RADIUS, TypographicPlan("odd", "unseen"))
HARDENED, ALIGNED = f"{BASE}-lore", f"{BASE}-dpo"  # the variants that ship
JOINT_LORE, JOINT_DPO = f"joint, {LORE}", "joint, DPO + Lagrangian"
THEN_NOISE, THEN_WORDS = f"{ALIGNED}, then noise by LORE", f"{HARDENED}, then words by DPO"


def _with_words(config: RunConfig) -> RunConfig:
    """Noise on photos with a wrong word drawn on, as `dpo-lite` draws it."""
    words: dict[str, Any] = {"kind": "typographic+pgd", "words": "even", "sizes": (0.19, 0.38), "variants": 10}
    return replace(config, perturbation=replace(config.perturbation, **words))


_WORDS = replace(dpo_lore_lite(), average="none", device="cpu")
JOINT_ARMS = {
    JOINT_LORE: _with_words(real_lore(0.1)),
    JOINT_DPO: replace(_with_words(real_lore(0.1)), objective=_WORDS.objective, anchor=_WORDS.anchor),
    THEN_NOISE: replace(real_lore(0.1), model=ALIGNED),
    THEN_WORDS: replace(_WORDS, model=HARDENED),
}


def _shipped(workspace: Workspace) -> list[Row]:
    """The variants that ship, which no seed changes."""
    base = real_lore(0.1)
    return [
        row
        for name in (HARDENED, ALIGNED)
        for row in measure(Arm(name, base), -1, name, [REAL_THREATS.spec], workspace.output)
    ]


JOINT = Design(
    pool=OWN,
    photos=TEST,
    arms=JOINT_ARMS,
    specs=(REAL_THREATS.spec, EvaluationSpec((ELSEWHERE,), Protocol((), samples=300))),
    columns=(*REAL_THREATS.columns, SetColumns((("{set} %", "clean"),))),
    note=(
        f"`{BASE}` at 128 pixels, `photos/train`; {{seeds}}. Joint, and noise after words: {STEPS} steps of 32 photos, "
        f"ε = {RADIUS}/255, {UPDATES} updates a step. Words after noise: `dpo-lore-lite`. `{HARDENED}` and "
        f"`{ALIGNED}` are the models that ship (300 and 200 steps). {ATTACKER}"
    ),
    panels=REAL_THREATS.panels((HARDENED, ALIGNED, *JOINT_ARMS)),
    picture="words against noise on a real tower",
    claims=(
        Claim(
            "on a real tower one model can be robust to typographic attacks and to noise at once",
            (
                REAL_THREATS.less("noise", JOINT_LORE, UNTOUCHED, REAL_THREATS.noise),
                REAL_THREATS.less("words", JOINT_LORE, UNTOUCHED, WORD),
                REAL_THREATS.over(JOINT_LORE),
            ),
        ),
        Claim(
            "on a real tower joint training beats one threat after the other against word and noise together",
            tuple(REAL_THREATS.over(JOINT_LORE, other) for other in (THEN_NOISE, THEN_WORDS)),
        ),
        Claim(
            "on a real tower the second of two stages undoes the first",
            (
                REAL_THREATS.less("words", ALIGNED, THEN_NOISE, WORD),
                REAL_THREATS.less("noise", HARDENED, THEN_WORDS, REAL_THREATS.noise),
            ),
        ),
        Claim(
            "on a real tower hardening or alignment alone helps against word and noise together",
            tuple(REAL_THREATS.over(name) for name in (HARDENED, ALIGNED)),
        ),
    ),
    further_rows=_shipped,
)

# ---- real-timm: a tower without texts, by the classifier that its authors trained
CLASSIFIER = "models/efficientnet-lite0"
IMAGENET = "{imagenet-1k}"
NO_TEXT_ARMS = {name: replace(config, model=f"timm:local-dir:{CLASSIFIER}") for name, config in NOISE_ARMS.items()}

NO_TEXTS = Design(
    pool=GIVEN,
    photos="",
    arms=NO_TEXT_ARMS,
    specs=(
        EvaluationSpec(
            (IMAGENET,),
            Protocol(
                (AttackPlan("apgd-ce", "linf", (1 / 255, RADIUS / 255), ATTACK_STEPS),),
                suites=("drift",),
                samples=500,
                head="classifier",
            ),
        ),
    ),
    columns=(
        share("clean %", "clean"),
        *(share(f"{e}/255 %", f"apgd-ce {e}/255") for e in (1, RADIUS)),
        value("drift", "drift.distance.mean"),
    ),
    note=(
        f"EfficientNet-Lite0 at 128 pixels, `{CLASSIFIER}`: 1,280 pooled features, no texts, and the layer of 1,000 "
        f"classes of its authors, which stays fixed. {{train}}, without labels. Budget of the front, {{seeds}}; 500 of "
        f"ImageNet's photos, APGD-CE with {ATTACK_STEPS} steps."
    ),
    panels=(
        Panel(
            "ImageNet, by the tower's own classifier",
            f"robust accuracy at {RADIUS}/255, %",
            "clean accuracy, %",
            tuple(Line(name, (name,), spread=False) for name in (UNTOUCHED, *NO_TEXT_ARMS)),
            f"{RADIUS}/255 %",
            "clean %",
        ),
    ),
    picture="clean against robust accuracy of a tower with its own classifier",
    claims=tuple(
        Claim(
            f"on a real tower without texts LORE keeps more clean accuracy than {what} and is no less robust",
            (
                Contrast("clean", LORE, other, "clean", IMAGENET),
                *(Contrast(f"{e}/255", LORE, other, f"apgd-ce {e}/255", IMAGENET, wanted=0) for e in (1, RADIUS)),
            ),
        )
        for what, other in (("FARE", FARE), ("a fixed penalty", PENALTY))
    ),
)

STUDIES = (
    Study(
        "real-other",
        "A real tower: other perturbations, and interpretability",
        f"{PAPER}: LORE also helps under Square, noise and corruptions, and its embeddings stay near their classes' "
        "prompts.",
        40,
        OTHER,
        (1,),
    ),
    Study(
        "real-joint",
        "A real tower: typographic attacks and noise",
        "One model can be robust to typographic attacks and to noise at once, also where an attacker has both means.",
        80,
        JOINT,
        TWO_SEEDS,
    ),
    Study(
        "real-timm",
        "A real tower without texts",
        f"{PAPER}: LORE holds for image-only towers with a fixed linear head. Give `--extra train=FOLDER` and "
        "`--extra imagenet-1k=FOLDER`, ImageNet's photos by WordNet id.",
        50,
        NO_TEXTS,
        TWO_SEEDS,
    ),
)
