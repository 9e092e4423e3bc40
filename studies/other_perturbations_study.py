"""Study of LORE under Square, Gaussian noise and corruptions, and of how well prompts describe a class's images."""

from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import share, value
from studies.declare import Claim, Contrast, Design, Panel, Profile, Study
from studies.lore_studies import PAPER
from studies.noise_arms import EPSILON, FARE, LORE, PENALTIES, PENALTY, RHO, TECOAS, fare_arm, lore_arm
from studies.pools import NOISE
from studies.workspace import ONE_SEED, PHOTOS

SIGMAS = (8, 16, 32, 64, 128)
OTHER_ARMS = {FARE: fare_arm(), LORE: lore_arm(RHO), PENALTY: PENALTIES[PENALTY]} | TECOAS
SQUARE = AttackPlan("square", "linf", (2 / 255, EPSILON / 255), 300)

OTHER = Design(
    pool=NOISE,
    arms=OTHER_ARMS,
    specs=(
        EvaluationSpec(
            (PHOTOS,), Protocol((SQUARE,), samples=200, suites=("noise", "corruptions", "interpretability"))
        ),
    ),
    columns=(
        share("clean %", "clean"),
        *(share(f"Square {e}/255 %", f"square {e}/255") for e in (2, EPSILON)),
        *(share(f"σ = {sigma} %", f"noise.sigma={sigma}") for sigma in SIGMAS),
        share("corruptions %", "corruptions.mean"),
        value("cosine with own prompts", "interpretability.own"),
        value("with others", "interpretability.other"),
    ),
    note=(
        "200 test photos, {seeds}. Square has 300 queries. *Corruptions*: mean over 8 kinds and five severities of "
        "ImageNet-C. *Cosine*: of clean images with the mean of 80 prompts about their own class, and about the other "
        "classes."
    ),
    panels=(
        Panel(
            "Gaussian noise",
            "σ in 255ths",
            "accuracy, %",
            tuple(Profile(arm, SIGMAS, tuple(f"σ = {s} %" for s in SIGMAS)) for arm in ("untouched", *OTHER_ARMS)),
        ),
    ),
    log=True,
    picture="accuracy under Gaussian noise",
    claims=(
        Claim(
            "LORE is more accurate than FARE under Square, Gaussian noise and corruptions",
            (
                Contrast(f"Square {EPSILON}/255", LORE, FARE, f"square {EPSILON}/255"),
                Contrast("σ = 64", LORE, FARE, "noise.sigma=64"),
                Contrast("corruptions", LORE, FARE, "corruptions.mean"),
            ),
        ),
    ),
)

STUDIES = (
    Study(
        "lore-other",
        "Other perturbations, and interpretability",
        f"{PAPER}: LORE also helps under Square, noise and corruptions, and its embeddings stay near their "
        "classes' prompts.",
        17,
        OTHER,
        ONE_SEED,
    ),
)
