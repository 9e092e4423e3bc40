"""Recipes of the papers: named configurations with the settings that they were published with."""

from dataclasses import replace
from typing import Any

from seaanchor.config.io import from_dict
from seaanchor.config.schema import (
    AdapterConfig,
    AnchorConfig,
    ObjectiveConfig,
    PerturbationConfig,
    RunConfig,
    format_epsilon,
)


def radius(epsilon: float | str) -> str:
    """A radius as settings hold it, from a number of pixel units or from text such as 4/255."""
    return format_epsilon(epsilon) if isinstance(epsilon, int | float) else str(epsilon)


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
    of_pairs = {"dpo": (1.0, 1.0), "ipo": (0.01, 0.01), "kto": (1.5, 0.01), "ppo": (1.0, 1.0)}
    beta, weight = {**of_pairs, "cross_entropy": (1.0, 0.0)}[kind]
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


def ppo() -> RunConfig:
    """PPO on the policy over the class texts against typographic attacks, held by KL to the reference: the expected
    reward of the true class over the drawn word, in four updates a batch (Schulman et al. 2017)."""
    return replace(typographic("ppo"), primal_steps=4)


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
