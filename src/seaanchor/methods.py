"""Named methods as objects: `seaanchor.methods.lore(rho=0.1)` is what `seaanchor train lore` trains.

Each is made of the recipe of the same name in `config.recipes`: its four parts, and as `defaults` the other settings
that it was published with.
"""

from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from seaanchor import registry
from seaanchor.config import recipes
from seaanchor.config.assemble import method_of, sections
from seaanchor.config.schema import RunConfig
from seaanchor.errors import SeaAnchorError

if TYPE_CHECKING:
    from seaanchor.method import Method

Epsilon = float | str
"""A radius in pixel units, as a number or as text such as 4/255."""


def from_recipe(config: RunConfig) -> "Method":
    """The method of a configuration, with its other settings that are not the library's defaults.

    Raises:
        SeaAnchorError: as `method_of`.
    """
    plain, parts = RunConfig(), {section.part for section in sections(config)}
    told = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in parts}
    defaults = {name: value for name, value in told.items() if value != getattr(plain, name)}
    return replace(method_of(config), defaults=defaults)


def fare(epsilon: Epsilon = "2/255") -> "Method":
    """FARE: the attacked embedding returns to the reference, nothing else holds it (Schlarmann et al. 2024)."""
    return from_recipe(recipes.fare(epsilon))


def lore(rho: float = 0.1, epsilon: Epsilon = "2/255", **anchor: Any) -> "Method":
    """LORE: FARE under a per-sample constraint on clean images, with a dual network (arXiv 2505.18884).

    Args:
        rho: how far a clean image may move, as a share of the squared length of its reference embedding.
        epsilon: radius of the attack in pixel units.
        anchor: other settings of `seaanchor.anchors.Lagrangian`, such as `dual="table"`, `dual_control="pi"`.

    Raises:
        SeaAnchorError: a setting that the anchor does not have, or another type of value.
    """
    known = registry.parameters("anchor", "lagrangian").keys()
    if others := sorted(anchor.keys() - known):
        near = get_close_matches(others[0], ["epsilon", *known], n=1, cutoff=0.5)
        found = f"lore with {', '.join(others)}, which its anchor does not take"
        change = f"did you mean {near[0]}?" if near else "set it on the run"
        raise SeaAnchorError(found, "epsilon, or settings of seaanchor.anchors.Lagrangian", change)
    return from_recipe(recipes.lore(epsilon, rho, **anchor))


def penalty(weight: float = 1.0, epsilon: Epsilon = "2/255") -> "Method":
    """The LORE paper's naive baseline: FARE plus a fixed weight on the clean distance."""
    return from_recipe(recipes.penalty(epsilon, weight))


def tecoa(epsilon: Epsilon = "2/255") -> "Method":
    """TeCoA: adversarial cross-entropy against the class prompts (Mao et al. 2023)."""
    return from_recipe(recipes.tecoa(epsilon))


def tecoa_lore(rho: float = 0.1, epsilon: Epsilon = "2/255") -> "Method":
    """TeCoA under LORE's constraint on embeddings."""
    return from_recipe(recipes.tecoa_lore(epsilon, rho))


def tecoa_kl(rho: float = 0.1, epsilon: Epsilon = "2/255") -> "Method":
    """TeCoA under the constraint on class distributions."""
    return from_recipe(recipes.tecoa_kl(epsilon, rho))


def dpo() -> "Method":
    """DPO against typographic attacks, held by KL to the reference (arXiv 2411.08923)."""
    return from_recipe(recipes.dpo())


def ipo() -> "Method":
    """IPO against typographic attacks, held by KL to the reference (arXiv 2411.08923)."""
    return from_recipe(recipes.ipo())


def kto() -> "Method":
    """KTO against typographic attacks, held by KL to the reference (arXiv 2411.08923)."""
    return from_recipe(recipes.kto())


def ppo() -> "Method":
    """PPO on the policy over the class texts against typographic attacks, held by KL to the reference (Schulman et al.
    2017)."""
    return from_recipe(recipes.ppo())


def typographic_ce() -> "Method":
    """Cross-entropy on clean and typographic images, held by nothing: the supervised baseline of arXiv 2411.08923."""
    return from_recipe(recipes.typographic_ce())


def dpo_lore(rho: float = 0.1) -> "Method":
    """Constrained preference optimization: DPO under LORE's per-sample constraint."""
    return from_recipe(recipes.dpo_lore(rho))


def dpo_linear() -> "Method":
    """DPO against typographic attacks on one linear map of both embeddings, whose spectrum is the slider t (arXiv
    2411.08923)."""
    return from_recipe(recipes.dpo_linear())


def gender_flip() -> "Method":
    """IPO that prefers the caption of the opposite gender, on one linear map (arXiv 2411.08923)."""
    return from_recipe(recipes.gender_flip())


def fare_tiny() -> "Method":
    """FARE as it made `seaanchor-tiny-fare`."""
    return from_recipe(recipes.fare_tiny())


def lore_tiny() -> "Method":
    """LORE as it made `seaanchor-tiny-lore`."""
    return from_recipe(recipes.lore_tiny())


def fare_lite() -> "Method":
    """FARE at the size of `seaanchor-lite`."""
    return from_recipe(recipes.fare_lite())


def lore_lite() -> "Method":
    """LORE as it made `seaanchor-lite-lore`."""
    return from_recipe(recipes.lore_lite())


def fare_quick() -> "Method":
    """FARE in a minute on a laptop, to see it work."""
    return from_recipe(recipes.fare_quick())


def lore_quick() -> "Method":
    """LORE in a minute on a laptop, on the same images and attack as `fare_quick`."""
    return from_recipe(recipes.lore_quick())


def dpo_lite() -> "Method":
    """DPO against typographic attacks as it made `seaanchor-lite-dpo`."""
    return from_recipe(recipes.dpo_lite())


def dpo_lore_lite() -> "Method":
    """DPO against typographic attacks at the size of `seaanchor-lite`, under LORE's constraint in place of the KL."""
    return from_recipe(recipes.dpo_lore_lite())


def ipo_lite() -> "Method":
    """IPO against typographic attacks at the size of `seaanchor-lite`."""
    return from_recipe(recipes.ipo_lite())


def kto_lite() -> "Method":
    """KTO against typographic attacks at the size of `seaanchor-lite`."""
    return from_recipe(recipes.kto_lite())


def ppo_lite() -> "Method":
    """PPO against typographic attacks at the size of `seaanchor-lite`, in one update a batch as the others."""
    return from_recipe(recipes.ppo_lite())


def typographic_ce_lite() -> "Method":
    """The supervised baseline of `dpo_lite`."""
    return from_recipe(recipes.typographic_ce_lite())


def dpo_linear_lite() -> "Method":
    """The slider at the size of `seaanchor-lite`, for t ≥ 0; with `orthogonality` 0.3 also below."""
    return from_recipe(recipes.dpo_linear_lite())


def dpo_tiny() -> "Method":
    """DPO against typographic attacks at the embedded model's size."""
    return from_recipe(recipes.dpo_tiny())


def ipo_tiny() -> "Method":
    """IPO against typographic attacks at the embedded model's size."""
    return from_recipe(recipes.ipo_tiny())


def kto_tiny() -> "Method":
    """KTO against typographic attacks at the embedded model's size."""
    return from_recipe(recipes.kto_tiny())


def ppo_tiny() -> "Method":
    """PPO against typographic attacks at the embedded model's size."""
    return from_recipe(recipes.ppo_tiny())


def typographic_ce_tiny() -> "Method":
    """The supervised baseline of `dpo_tiny`."""
    return from_recipe(recipes.typographic_ce_tiny())


def dpo_lore_tiny() -> "Method":
    """Constrained preference optimization at the embedded model's size."""
    return from_recipe(recipes.dpo_lore_tiny())


def dpo_linear_tiny() -> "Method":
    """The slider at the embedded model's size."""
    return from_recipe(recipes.dpo_linear_tiny())
