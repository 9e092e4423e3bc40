"""Named methods: each is a configuration and nothing else; `assemble` turns a configuration into its four parts."""

from collections.abc import Callable
from dataclasses import replace

from seaanchor.config import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig, parse_epsilon


def fare(epsilon: str = "2/255") -> RunConfig:
    """FARE: the attacked embedding returns to the reference, nothing else holds it (Schlarmann et al. 2024)."""
    return RunConfig(perturbation=PerturbationConfig(epsilon=epsilon), epochs=2, lr=1e-5)


def lore(epsilon: str = "2/255", rho: float = 0.1) -> RunConfig:
    """LORE: FARE under a per-sample constraint on clean images, with a dual network (arXiv 2505.18884)."""
    return replace(fare(epsilon), anchor=AnchorConfig("lagrangian", rho=rho), primal_steps=5)


def penalty(epsilon: str = "2/255", weight: float = 1.0) -> RunConfig:
    """The LORE paper's naive baseline: FARE plus a fixed weight on the clean distance."""
    return replace(fare(epsilon), anchor=AnchorConfig("penalty", weight=weight))


def tecoa(epsilon: str = "2/255") -> RunConfig:
    """TeCoA: adversarial cross-entropy against the class prompts (Mao et al. 2023)."""
    return replace(fare(epsilon), objective=ObjectiveConfig("tecoa"))


def tecoa_lore(epsilon: str = "2/255", rho: float = 0.1) -> RunConfig:
    """TeCoA under LORE's constraint on embeddings."""
    return replace(lore(epsilon, rho), objective=ObjectiveConfig("tecoa"))


def tecoa_kl(epsilon: str = "2/255", rho: float = 0.1) -> RunConfig:
    """TeCoA under the constraint on class distributions."""
    return replace(tecoa_lore(epsilon, rho), anchor=AnchorConfig("lagrangian", on="distribution", rho=rho))


def _tiny(recipe: RunConfig) -> RunConfig:
    """The budget the embedded variants were trained with: shorter attack, fewer updates a batch, a step for a small tower."""
    return replace(
        recipe, perturbation=replace(recipe.perturbation, num_steps=4, step_size=None), primal_steps=min(recipe.primal_steps, 2),
        batch_size=32, lr=3e-4, warmup=50, save_every=100, log_every=10,
    )  # fmt: skip


def fare_tiny() -> RunConfig:
    """FARE as it made `seaanchor-tiny-fare`."""
    return _tiny(fare())


def lore_tiny() -> RunConfig:
    """LORE as it made `seaanchor-tiny-lore`."""
    recipe = _tiny(lore())
    return replace(recipe, anchor=replace(recipe.anchor, dual_lr=3e-3))


def fare_quick() -> RunConfig:
    """FARE in a minute on a laptop, to see it work: two attack steps, a few dozen batches."""
    recipe = fare_tiny()
    return replace(recipe, perturbation=replace(recipe.perturbation, num_steps=2, step_size="1.5/255"), max_steps=60, warmup=5, epochs=10)


def lore_quick() -> RunConfig:
    """LORE in a minute on a laptop, on the same images and attack as `fare-quick`."""
    return replace(fare_quick(), anchor=lore_tiny().anchor, primal_steps=lore_tiny().primal_steps)


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "fare": fare, "lore": lore, "penalty": penalty, "tecoa": tecoa, "tecoa-lore": tecoa_lore, "tecoa-kl": tecoa_kl,
    "fare-tiny": fare_tiny, "lore-tiny": lore_tiny, "fare-quick": fare_quick, "lore-quick": lore_quick,
}  # fmt: skip


def assemble(config: RunConfig, dim: int):
    """The method a configuration describes.

    Args:
        config: a checked configuration.
        dim: D of the reference embeddings, which the multiplier network reads.

    Returns:
        `seaanchor.method.Method`.
    """
    from seaanchor.adapters.full import Full
    from seaanchor.anchors.constraints import distribution_constraint, embedding_constraint
    from seaanchor.anchors.duals import Dual
    from seaanchor.anchors.lagrangian import Lagrangian
    from seaanchor.anchors.penalty import NoAnchor, Penalty
    from seaanchor.method import Method
    from seaanchor.objectives.embedding import EmbeddingDistance
    from seaanchor.objectives.supervised import CrossEntropy, TeCoA
    from seaanchor.parts import Needs

    a = config.anchor
    constraint_of = {"embedding": embedding_constraint, "distribution": distribution_constraint}[a.on]
    needs = Needs(clean=True, head=a.on == "distribution")
    adaptive = a.margin == "adaptive"
    anchors = {
        "none": NoAnchor,
        "penalty": lambda: Penalty(a.weight, a.rho, constraint_of, adaptive, needs),
        "lagrangian": lambda: Lagrangian(
            Dual(a.dual, dim, hidden=a.dual_hidden, initial=a.initial_multiplier, maximum=a.max_multiplier), a.rho, constraint_of, adaptive, needs
        ),
    }
    objectives = {"embedding_distance": EmbeddingDistance, "tecoa": TeCoA, "cross_entropy": CrossEntropy}
    return Method(objectives[config.objective.kind](), anchors[a.kind](), perturbation_of(config.perturbation), {"full": Full}[config.adapter.kind]())


def perturbation_of(config: PerturbationConfig):
    """The perturbation a configuration describes."""
    from seaanchor.perturbations.apgd import APGD
    from seaanchor.perturbations.ball import Ball
    from seaanchor.perturbations.none import NoPerturbation
    from seaanchor.perturbations.pgd import PGD

    ball = Ball(config.norm, parse_epsilon(config.epsilon, config.norm))
    step = None if config.step_size is None else parse_epsilon(config.step_size, config.norm)
    kinds = {
        "none": NoPerturbation,
        "pgd": lambda: PGD(ball, num_steps=config.num_steps, step_size=step, random_start=config.random_start, momentum=config.momentum),
        "apgd": lambda: APGD(ball, num_steps=config.num_steps),
    }
    return kinds[config.kind]()



