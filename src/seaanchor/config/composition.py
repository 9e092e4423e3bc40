"""Which parts go together, read from what they declare."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from seaanchor import registry
from seaanchor.config.assemble import build
from seaanchor.config.schema import AdapterConfig, AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.method import Method
    from seaanchor.types import Needs

Conflict = tuple[bool, str, str]
"""Whether it is there, what was found, and what would be legal."""

SECTIONS = {s.part: s for s in (ObjectiveConfig, AnchorConfig, PerturbationConfig, AdapterConfig)}


def check_composition(config: RunConfig, method: "Method") -> None:
    """Objective, anchor, perturbation and adapter against each other, before any weights load.

    Raises:
        SeaAnchorError: names the first two that do not go together.
    """
    for conflicts in (_of_links, _of_parts, _of_stored_embeddings, _of_tokens, _of_settings):
        for applies, found, legal in conflicts(config, method):
            if applies:
                raise SeaAnchorError(found, legal, "change one of the two")
    beta = config.objective.beta
    if _needs(method.objective).pairs and not 0 < beta < float("inf"):
        raise SeaAnchorError(f"objective.beta is {beta}", "a positive number", "try 1.0")


def asks_for_classes(needs: "Needs") -> bool:
    """Whether parts that declare this need class names or candidate texts."""
    return needs.head or needs.labels or needs.pairs or needs.texts


def declared(part: str, **wanted: bool) -> str:
    """The names of the parts that declare something, for the errors, such as `dpo, ipo, kto`."""
    from seaanchor.types import needs_of

    found = []
    for name in registry.names(part):
        try:
            needs = needs_of(build(SECTIONS[part](name)))
        except SeaAnchorError:
            continue  # it asks for settings of its own
        if all(getattr(needs, trait) == value for trait, value in wanted.items()):
            found.append(name)
    return ", ".join(found)


def _of_links(config: RunConfig, method: "Method") -> Iterator[Conflict]:
    """Perturbations one after another."""
    from seaanchor.types import needs_of

    links = [needs_of(link) for link in getattr(method.perturbation, "links", (method.perturbation,))]
    kind = config.perturbation.kind
    yield (
        any(needs.pixel_gradient for needs in links[:-1]),
        f"perturbation {kind} changes images after a gradient attack, which then are no longer in its ball",
        "the gradient attack as the last link, such as typographic+pgd",
    )
    yield (
        sum(needs.gives_pairs for needs in links) > 1,
        f"perturbation {kind} brings two preferences for each image",
        "one link that draws words or swaps texts",
    )


def _of_parts(config: RunConfig, method: "Method") -> Iterator[Conflict]:
    """What the objective and the anchor learn from."""
    objective, perturbation = config.objective.kind, config.perturbation.kind
    asked, given = _needs(method.objective), _needs(method.perturbation)
    yield (
        given.leaves_pixels and given.gives_pairs and not asked.pairs,
        f"perturbation {perturbation} changes texts, which only preferences look at",
        f"an objective of preferences: {declared('objective', pairs=True)}",
    )
    yield (
        given.leaves_pixels and asked.hard_images,
        f"objective {objective} with perturbation {perturbation} is 0 from the start: the policy already is the "
        "reference",
        f"a perturbation that changes the image: {declared('perturbation', leaves_pixels=False)}",
    )
    yield (
        asked.hard_images and _leaves_as_they_are(method),
        f"objective {objective} with perturbation {perturbation} at epsilon {config.perturbation.epsilon} and "
        f"{config.perturbation.num_steps} steps, which changes no pixel, is 0 from the start: the policy already is "
        "the reference",
        "a radius above 0, and a step or a random start",
    )


def _leaves_as_they_are(method: "Method") -> bool:
    """Whether images come out of the perturbation as they went in: a ball of radius 0, or an attack that neither moves
    nor starts anywhere else."""
    links: tuple[Any, ...] = getattr(method.perturbation, "links", (method.perturbation,))
    if any(getattr(link, "ball", None) is None for link in links):
        return False
    return all(link.ball.epsilon == 0 or not (link.num_steps or getattr(link, "random_start", True)) for link in links)


def _of_stored_embeddings(config: RunConfig, method: "Method") -> Iterator[Conflict]:
    """An adapter that trains a map of embeddings computed once."""
    if not _needs(method.adapter).stored_embeddings:
        return
    given, adapter = _needs(method.perturbation), f"adapter {config.adapter.kind}"
    yield (
        given.pixel_gradient or not (given.leaves_pixels or given.draws_words),
        f"{adapter} with perturbation {config.perturbation.kind} would attack pixels, but it trains on embeddings "
        "computed once",
        "perturbation typographic, attribute or none",
    )
    yield (
        _needs(method.objective).reference_embeddings,
        f"{adapter} with objective {config.objective.kind}: a map of both sides has no reference embedding to return "
        "to",
        f"an objective on class texts: {declared('objective', reference_embeddings=False)}",
    )
    yield (
        _needs(method.anchor).reference_embeddings,
        f"{adapter} with anchor {config.anchor.kind} on embeddings, which a map of both sides may turn freely",
        "anchor.space distribution, or anchor kl",
    )
    yield (
        given.draws_words and config.perturbation.variants == 0,
        f"{adapter} draws words anew at every step, but it trains on embeddings computed once",
        "perturbation.variants of at least 1",
    )
    yield (
        config.unit_embeddings,
        f"{adapter} with unit_embeddings, which a map would not leave at length 1",
        ("raw embeddings"),
    )
    yield (
        bool(config.eval_every),
        f"{adapter} with evaluation while training, which looks at the tower",
        ("no eval_every"),
    )
    yield (
        config.checkpoint_activations,
        f"{adapter} with checkpoint_activations, which are those of the tower",
        ("adapter full, last_blocks or lora"),
    )
    yield config.compile, f"{adapter} with compile, which compiles the tower", "adapter full or last_blocks"
    yield (
        config.fold_norms,
        f"{adapter} with fold_norms, which is for training the tower",
        "adapter full or last_blocks",
    )


def _of_tokens(config: RunConfig, method: "Method") -> Iterator[Conflict]:
    """Patch tokens as embeddings: many for each image, and no class text to compare them with."""
    if config.tokens != "patches":
        return
    objective, anchor, found = _needs(method.objective), _needs(method.anchor), "tokens patches with"
    yield (
        objective.head or objective.pairs or objective.labels,
        f"{found} objective {config.objective.kind}, which judges one embedding an image by class texts",
        f"an objective on embeddings themselves: {declared('objective', reference_embeddings=True, head=False)}",
    )
    yield (
        anchor.head,
        f"{found} anchor {config.anchor.kind} on class distributions, which patches do not have",
        "anchor.space embedding, or anchor none",
    )
    yield (
        _needs(method.adapter).stored_embeddings,
        f"{found} adapter {config.adapter.kind}, which maps embeddings of texts, too",
        "adapter full, last_blocks or lora",
    )
    yield (
        bool(config.eval_every),
        f"{found} evaluation while training, which classifies images",
        "no eval_every",
    )


def _of_settings(config: RunConfig, method: "Method") -> Iterator[Conflict]:
    """Settings of the run that a part does not go with."""
    linear_head, last_blocks = config.head not in (None, "text"), config.adapter.last_blocks
    yield (
        last_blocks is not None and not hasattr(method.adapter, "last_blocks"),
        f"adapter.last_blocks {last_blocks} with adapter {config.adapter.kind}, which trains something else",
        "adapter last_blocks, or no adapter.last_blocks",
    )
    yield (
        config.objective.relative and not hasattr(method.objective, "relative"),
        f"objective.relative with objective {config.objective.kind}, whose loss has no unit of the tower",
        "objective embedding_distance, or no objective.relative",
    )
    yield (
        (config.anchor.relative or config.anchor.rho_start is not None or config.anchor.dual_control != "integral")
        and not hasattr(method.anchor, "dual_control"),
        f"anchor.relative, anchor.rho_start or anchor.dual_control with anchor {config.anchor.kind}, which has no "
        "multiplier",
        "anchor lagrangian, or none of the three",
    )
    yield (
        linear_head and _needs(method.adapter).stored_embeddings,
        f"adapter {config.adapter.kind} with head {config.head}: it maps texts as well, and a linear head has none",
        "head text, or adapter full, last_blocks or lora",
    )
    yield (
        linear_head and config.unit_embeddings,
        f"unit_embeddings with head {config.head}, which reads raw embeddings",
        "head text, or raw embeddings",
    )
    yield (
        config.anchor.reference != "frozen" and not _needs(method.anchor).clean,
        f"anchor.reference {config.anchor.reference} with anchor {config.anchor.kind}, which holds nothing",
        f"an anchor on clean images: {declared('anchor', clean=True)}",
    )
    yield (
        config.shard and not _needs(method.adapter).whole_tower,
        f"shard with adapter {config.adapter.kind}, which trains a part of the tower alone",
        "adapter full",
    )
    yield (
        config.attack_precision == "bf16" and not _needs(method.perturbation).pixel_gradient,
        f"attack_precision bf16 with perturbation {config.perturbation.kind}, which takes no gradient",
        "a gradient attack, such as pgd",
    )
    yield (
        config.compile and config.shard,
        "compile with shard, which gathers weights block by block while the tower runs",
        "one of the two",
    )
    yield (
        config.compile and config.checkpoint_activations,
        "compile with checkpoint_activations: what is computed again may meet another compilation",
        "one of the two",
    )


def _needs(part: Any) -> "Needs":
    from seaanchor.types import needs_of

    return needs_of(part)
