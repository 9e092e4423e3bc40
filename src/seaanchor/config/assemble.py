"""From a configuration to the four parts of a method."""

from collections.abc import Callable, Sequence

from seaanchor.config.schema import PerturbationConfig, RunConfig, parse_epsilon


def assemble(config: RunConfig, dim: int, texts: Sequence[str] = ()):
    """The method (`seaanchor.method.Method`) a configuration describes.

    Args:
        config: a checked configuration.
        dim: D of the reference embeddings, which the multiplier network reads.
        texts: class names or candidate texts, which typographic and attribute perturbations draw from.
    """
    from seaanchor.adapters.full import Full
    from seaanchor.adapters.linear_map import Linear
    from seaanchor.adapters.lora import LoRA
    from seaanchor.anchors.constraints import distribution_constraint, embedding_constraint
    from seaanchor.anchors.duals import Dual
    from seaanchor.anchors.lagrangian import Lagrangian
    from seaanchor.anchors.penalty import NoAnchor, Penalty
    from seaanchor.method import Method
    from seaanchor.objectives.embedding import EmbeddingDistance
    from seaanchor.objectives.preference import DPO, IPO, KTO
    from seaanchor.objectives.supervised import CrossEntropy, TeCoA
    from seaanchor.types import Adapter, Anchor, Needs, Objective

    a, o = config.anchor, config.objective
    constraint_of = {"embedding": embedding_constraint, "distribution": distribution_constraint}[a.space]
    needs = Needs(clean=True, head=a.space == "distribution")
    adaptive = a.margin == "adaptive"
    anchors: dict[str, Callable[[], Anchor]] = {
        "none": NoAnchor,
        "penalty": lambda: Penalty(a.weight, a.rho, constraint_of, adaptive, needs),
        "kl": lambda: Penalty(a.weight, a.rho, distribution_constraint, adaptive, Needs(clean=True, head=True)),
        "lagrangian": lambda: Lagrangian(
            Dual(a.dual, dim, hidden=a.dual_hidden, initial=a.initial_multiplier, maximum=a.max_multiplier),
            a.rho,
            constraint_of,
            adaptive,
            needs,
            a.violators_only,
            a.augmented,
        ),
    }
    objectives: dict[str, Callable[[], Objective]] = {
        "embedding_distance": EmbeddingDistance,
        "tecoa": TeCoA,
        "cross_entropy": CrossEntropy,
        "ipo": lambda: IPO(o.beta),
        "dpo": lambda: DPO(o.beta, o.label_smoothing, o.reference_free),
        "kto": lambda: KTO(o.beta, o.desirable_weight, o.undesirable_weight),
    }
    adapters: dict[str, Callable[[], Adapter]] = {
        "full": Full,
        "linear": lambda: Linear(config.adapter.orthogonality),
        "lora": lambda: LoRA(config.adapter.rank, config.adapter.alpha),
    }
    perturbation = perturbation_of(config.perturbation, texts, config.seed)
    return Method(objectives[o.kind](), anchors[a.kind](), perturbation, adapters[config.adapter.kind]())


def perturbation_of(config: PerturbationConfig, texts: Sequence[str] = (), seed: int = 0):
    """The perturbation a configuration describes, over the given class names or candidate texts."""
    from seaanchor.attacks.ball import Ball
    from seaanchor.perturbations.apgd import APGD
    from seaanchor.perturbations.attribute import AttributeSwap, partners
    from seaanchor.perturbations.chain import Chain
    from seaanchor.perturbations.none import NoPerturbation
    from seaanchor.perturbations.pgd import PGD
    from seaanchor.perturbations.typographic import Typographic
    from seaanchor.types import Perturbation
    from seaanchor.utils.text import swap_words, word_pairs

    ball = Ball(config.norm, parse_epsilon(config.epsilon, config.norm))
    step = None if config.step_size is None else parse_epsilon(config.step_size, config.norm)
    kinds: dict[str, Callable[[], Perturbation]] = {
        "none": NoPerturbation,
        "pgd": lambda: PGD(
            ball, num_steps=config.num_steps, step_size=step, random_start=config.random_start, momentum=config.momentum
        ),
        "apgd": lambda: APGD(ball, num_steps=config.num_steps),
        "typographic": lambda: Typographic(
            texts, config.words, config.fonts, (config.sizes[0], config.sizes[1]), config.variants, seed
        ),
        "attribute": lambda: AttributeSwap(
            partners(texts, [swap_words(text, word_pairs(config.swap)) for text in texts]), config.flip
        ),
    }
    links = tuple(kinds[kind]() for kind in config.kind.split("+"))
    return links[0] if len(links) == 1 else Chain(links)
