"""Recipes: named configurations and nothing else; `config.assemble` turns one into its four parts."""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from seaanchor.config.io import from_dict
from seaanchor.config.run_settings import read_settings
from seaanchor.config.schema import (
    AdapterConfig,
    AnchorConfig,
    ObjectiveConfig,
    PerturbationConfig,
    RunConfig,
    format_epsilon,
)
from seaanchor.errors import SeaAnchorError


def radius(epsilon: float | str) -> str:
    """A radius as settings hold it, from a number of pixel units or from text such as 4/255."""
    return epsilon if isinstance(epsilon, str) else format_epsilon(epsilon)


def fare(epsilon: float | str = "2/255") -> RunConfig:
    """FARE: the attacked embedding returns to the reference, nothing else holds it (Schlarmann et al. 2024)."""
    return RunConfig(perturbation=PerturbationConfig(epsilon=radius(epsilon)), epochs=2, lr=1e-5)


def lore(epsilon: float | str = "2/255", rho: float = 0.1, **anchor: Any) -> RunConfig:
    """LORE: FARE under a per-sample constraint on clean images, with a dual network (arXiv 2505.18884).

    Args:
        epsilon: radius of the attack in pixel units.
        rho: how far a clean image may move.
        anchor: other settings of its anchor, such as `dual="table"`.

    Raises:
        SeaAnchorError: a setting that the anchor does not have, or another type of value.
    """
    held = from_dict(AnchorConfig, {"kind": "lagrangian", "rho": rho, **anchor}, "anchor.")
    return replace(fare(epsilon), anchor=held, primal_steps=5)


def penalty(epsilon: float | str = "2/255", weight: float = 1.0) -> RunConfig:
    """The LORE paper's naive baseline: FARE plus a fixed weight on the clean distance."""
    return replace(fare(epsilon), anchor=AnchorConfig("penalty", weight=weight))


def tecoa(epsilon: float | str = "2/255") -> RunConfig:
    """TeCoA: adversarial cross-entropy against the class prompts (Mao et al. 2023)."""
    return replace(fare(epsilon), objective=ObjectiveConfig("tecoa"))


def tecoa_lore(epsilon: float | str = "2/255", rho: float = 0.1) -> RunConfig:
    """TeCoA under LORE's constraint on embeddings."""
    return replace(lore(epsilon, rho), objective=ObjectiveConfig("tecoa"))


def tecoa_kl(epsilon: float | str = "2/255", rho: float = 0.1) -> RunConfig:
    """TeCoA under the constraint on class distributions."""
    return replace(tecoa_lore(epsilon, rho), anchor=AnchorConfig("lagrangian", space="distribution", rho=rho))


def typographic(kind: str = "dpo") -> RunConfig:
    """Preference of the true class over the word drawn on the image, held by KL to the reference on clean images (arXiv
    2411.08923)."""
    beta, weight = {"dpo": (1.0, 1.0), "ipo": (0.01, 0.01), "kto": (1.5, 0.01), "cross_entropy": (1.0, 0.0)}[kind]
    anchor = AnchorConfig("kl", weight=weight) if weight else AnchorConfig()
    return RunConfig(
        objective=ObjectiveConfig(kind, beta=beta),
        anchor=anchor,
        perturbation=PerturbationConfig("typographic", variants=10),
        epochs=3,
        batch_size=512,
        lr=2e-5,
        wd=0.0,
        optimizer="adamax",
        average="beta",
    )


def dpo() -> RunConfig:
    """DPO against typographic attacks, held by KL to the reference (arXiv 2411.08923)."""
    return typographic("dpo")


def ipo() -> RunConfig:
    """IPO against typographic attacks, held by KL to the reference (arXiv 2411.08923)."""
    return typographic("ipo")


def kto() -> RunConfig:
    """KTO against typographic attacks, held by KL to the reference (arXiv 2411.08923)."""
    return typographic("kto")


def typographic_ce() -> RunConfig:
    """Cross-entropy on clean and lettered images, held by nothing: the supervised baseline of arXiv 2411.08923."""
    return typographic("cross_entropy")


def dpo_lore(rho: float = 0.1) -> RunConfig:
    """Constrained preference optimization: DPO under LORE's per-sample constraint."""
    return replace(dpo(), anchor=AnchorConfig("lagrangian", rho=rho))


def dpo_linear() -> RunConfig:
    """DPO against typographic attacks on one linear map of both embeddings, whose spectrum is the slider t (arXiv
    2411.08923)."""
    return replace(dpo(), adapter=AdapterConfig("linear"), lr=1e-3, epochs=30, optimizer="adamw", average="none")


def gender_flip() -> RunConfig:
    """Prefer the caption of the opposite gender, on one linear map: t then scales gender from as it was (0) through
    chance to reversed (1) (arXiv 2411.08923). IPO pushes every pair alike until it is turned, and so finds what roles
    share; a soft penalty leaves the map room to turn it."""
    swapped = PerturbationConfig("attribute", flip=True)
    return replace(
        dpo_linear(),
        train_data="emoji-people/train",
        objective=ObjectiveConfig("ipo", beta=0.05),
        anchor=AnchorConfig(),
        perturbation=swapped,
        adapter=AdapterConfig("linear", orthogonality=3.0),
        batch_size=64,
        epochs=60,
    )


def _tiny(recipe: RunConfig) -> RunConfig:
    """The budget the embedded variants were trained with: two attack steps, few updates a batch, a learning rate for a
    small tower."""
    attack = replace(recipe.perturbation, num_steps=2, step_size="1.5/255")
    return replace(
        recipe,
        train_data="photos-mini/train",
        perturbation=attack,
        primal_steps=min(recipe.primal_steps, 2),
        batch_size=32,
        lr=5e-4,
        warmup=100,
        epochs=100,
        max_steps=1200,
        precision="bf16",
        save_every=500,
        log_every=25,
    )


def fare_tiny() -> RunConfig:
    """FARE as it made `seaanchor-tiny-fare`."""
    return _tiny(fare())


def lore_tiny() -> RunConfig:
    """LORE as it made `seaanchor-tiny-lore`."""
    recipe = _tiny(lore(rho=0.05))
    return replace(recipe, anchor=replace(recipe.anchor, dual_lr=1e-4, initial_multiplier=2.0, max_multiplier=20.0))


def fare_quick() -> RunConfig:
    """FARE in a minute on a laptop, to see it work."""
    return replace(fare_tiny(), max_steps=120, warmup=10, save_every=200, log_every=5)


def lore_quick() -> RunConfig:
    """LORE in a minute on a laptop, on the same images and attack as `fare-quick`."""
    return replace(fare_quick(), anchor=lore_tiny().anchor, primal_steps=lore_tiny().primal_steps)


def _drawn(recipe: RunConfig) -> RunConfig:
    """The embedded model's budget: letters large enough for 64 pixels, half of the class words, a learning rate for a
    small tower."""
    drawings = replace(recipe.perturbation, sizes=(0.14, 0.25), words="even", variants=10)
    return replace(
        recipe,
        train_data="photos-mini/train",
        perturbation=drawings,
        batch_size=64,
        epochs=16,
        lr=5e-4,
        warmup=10,
        optimizer="adamw",
        log_every=10,
    )


def dpo_tiny() -> RunConfig:
    """DPO against typographic attacks at the embedded model's size, whose reference prefers the drawn word by far: a
    small β keeps on pushing."""
    recipe = _drawn(dpo())
    return replace(recipe, objective=replace(recipe.objective, beta=0.1))


def ipo_tiny() -> RunConfig:
    """IPO against typographic attacks at the embedded model's size."""
    return _drawn(ipo())


def kto_tiny() -> RunConfig:
    """KTO against typographic attacks at the embedded model's size."""
    return _drawn(kto())


def typographic_ce_tiny() -> RunConfig:
    """The supervised baseline of `dpo-tiny`."""
    return _drawn(typographic_ce())


def dpo_lore_tiny() -> RunConfig:
    """Constrained preference optimization at the embedded model's size: `dpo-tiny` with a constraint in place of the
    KL."""
    anchor = AnchorConfig("lagrangian", rho=0.2, dual_lr=1e-4, initial_multiplier=0.003, max_multiplier=20.0)
    return replace(dpo_tiny(), anchor=anchor)


def dpo_linear_tiny() -> RunConfig:
    """The slider at the embedded model's size."""
    recipe = _drawn(dpo_linear())
    return replace(
        recipe,
        lr=3e-3,
        epochs=60,
        anchor=AnchorConfig("kl", weight=0.1),
        adapter=AdapterConfig("linear", orthogonality=0.03),
    )


RECIPES: dict[str, Callable[[], RunConfig]] = {
    "fare": fare,
    "lore": lore,
    "penalty": penalty,
    "tecoa": tecoa,
    "tecoa-lore": tecoa_lore,
    "tecoa-kl": tecoa_kl,
    "dpo": dpo,
    "ipo": ipo,
    "kto": kto,
    "typographic-ce": typographic_ce,
    "dpo-lore": dpo_lore,
    "dpo-linear": dpo_linear,
    "gender-flip": gender_flip,
    "fare-tiny": fare_tiny,
    "lore-tiny": lore_tiny,
    "fare-quick": fare_quick,
    "lore-quick": lore_quick,
    "dpo-tiny": dpo_tiny,
    "ipo-tiny": ipo_tiny,
    "kto-tiny": kto_tiny,
    "typographic-ce-tiny": typographic_ce_tiny,
    "dpo-lore-tiny": dpo_lore_tiny,
    "dpo-linear-tiny": dpo_linear_tiny,
}


def recipe_named(name: str) -> RunConfig:
    """A shipped recipe by its name, or that of a YAML file.

    Raises:
        SeaAnchorError: no recipe of this name, or a file that holds none.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if name.endswith((".yaml", ".yml")):
        return from_dict(RunConfig, read_settings(Path(name)))
    plain = name.lower().replace("-", "_")
    near = [recipe for recipe, make in RECIPES.items() if make().objective.kind == plain]
    near = near or get_close_matches(name, RECIPES, n=1, cutoff=0.4)
    change = f"did you mean {near[0]}?" if near else "see `seaanchor recipes ls`"
    raise SeaAnchorError(f"no recipe is called {name!r}", f"one of {', '.join(RECIPES)}, or a .yaml file", change)
