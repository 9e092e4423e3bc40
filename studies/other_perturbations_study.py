"""Study of LORE under Square, Gaussian noise and corruptions, and of how well prompts describe a class's images."""

from collections.abc import Mapping

from seaanchor.config.schema import RunConfig
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import share, value
from studies.declare import Claim, Contrast, Design, Panel, Profile, Study
from studies.lore_studies import PAPER
from studies.noise_arms import EPSILON, FARE, LORE, PENALTIES, PENALTY, RHO, TECOAS, fare_arm, lore_arm
from studies.pools import NOISE, Pool
from studies.workspace import ONE_SEED, PHOTOS

SIGMAS = (8, 16, 32, 64, 128)


def perturbed(
    pool: Pool,
    arms: Mapping[str, RunConfig],
    dataset: str,
    radii: tuple[int, int],
    claims: tuple[Claim, ...],
    model: str = "",
) -> Design:
    """Arms under Square at two radii, noise and corruptions, and how well prompts describe their embeddings.

    Args:
        pool: where they are trained.
        arms: what is trained.
        dataset: labelled photos to measure on.
        radii: of Square, in 255ths.
        claims: about them.
        model: a sentence of the note.
    """
    square = AttackPlan("square", "linf", tuple(e / 255 for e in radii), 300)
    suites = ("noise", "corruptions", "interpretability")
    return Design(
        pool=pool,
        photos=dataset,
        arms=arms,
        specs=(EvaluationSpec((dataset,), Protocol((square,), samples=200, suites=suites)),),
        columns=(
            share("clean %", "clean"),
            *(share(f"Square {e}/255 %", f"square {e}/255") for e in radii),
            *(share(f"σ = {sigma} %", f"noise.sigma={sigma}") for sigma in SIGMAS),
            share("corruptions %", "corruptions.mean"),
            value("cosine with own prompts", "interpretability.own"),
            value("with others", "interpretability.other"),
        ),
        note=(
            f"{model}200 test photos, {{seeds}}. Square has 300 queries. *Corruptions*: mean over 8 kinds and five "
            "severities of ImageNet-C. *Cosine*: of clean images with the mean of 80 prompts about their own class, "
            "and about the other classes."
        ),
        panels=(
            Panel(
                "Gaussian noise",
                "σ in 255ths",
                "accuracy, %",
                tuple(Profile(arm, SIGMAS, tuple(f"σ = {s} %" for s in SIGMAS)) for arm in ("untouched", *arms)),
            ),
        ),
        log=True,
        picture="accuracy under Gaussian noise",
        claims=claims,
    )


def more_accurate(one: str, other: str, dataset: str, radius: int) -> tuple[Contrast, ...]:
    """One arm less another under Square, noise and corruptions."""
    measures = {
        f"Square {radius}/255": f"square {radius}/255",
        "σ = 64": "noise.sigma=64",
        "corruptions": "corruptions.mean",
    }
    return tuple(Contrast(label, one, other, measure, dataset) for label, measure in measures.items())


OTHER = perturbed(
    NOISE,
    {FARE: fare_arm(), LORE: lore_arm(RHO), PENALTY: PENALTIES[PENALTY]} | TECOAS,
    PHOTOS,
    (2, EPSILON),
    (
        Claim(
            "LORE is more accurate than FARE under Square, Gaussian noise and corruptions",
            more_accurate(LORE, FARE, PHOTOS, EPSILON),
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
