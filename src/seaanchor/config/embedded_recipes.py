"""Recipes at the size of the embedded models: budgets of a few minutes for the methods named before `-tiny`, `-lite`
and `-quick`."""

from dataclasses import replace

from seaanchor.config.published_recipes import dpo, dpo_linear, fare, ipo, kto, lore, ppo, typographic_ce
from seaanchor.config.schema import AdapterConfig, AnchorConfig, RunConfig


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


def _lite(recipe: RunConfig) -> RunConfig:
    """The budget of the variants of `seaanchor-lite`: three attack steps, few updates a batch, its own photos, and a
    learning rate that its tower bears once the scales of its normalisations are folded."""
    attack = replace(recipe.perturbation, num_steps=3, step_size="1/255")
    return replace(
        recipe,
        model="seaanchor-lite",
        train_data="photos/train",
        perturbation=attack,
        primal_steps=min(recipe.primal_steps, 2),
        batch_size=32,
        lr=5e-4,
        fold_norms=True,
        warmup=10,
        epochs=100,
        max_steps=300,
        precision="bf16",
        save_every=50,
        log_every=10,
    )


def fare_lite() -> RunConfig:
    """FARE at the size of `seaanchor-lite`."""
    return _lite(fare())


def lore_lite() -> RunConfig:
    """LORE as it made `seaanchor-lite-lore`."""
    recipe = _lite(lore(rho=0.1))
    return replace(recipe, anchor=replace(recipe.anchor, dual_lr=1e-4, initial_multiplier=2.0, max_multiplier=20.0))


def fare_quick() -> RunConfig:
    """FARE in a minute on a laptop, to see it work: small batches bear a smaller rate."""
    return replace(fare_lite(), max_steps=30, batch_size=16, lr=2e-4, warmup=5, log_every=2)


def lore_quick() -> RunConfig:
    """LORE in a minute on a laptop, on the same images and attack as `fare-quick`."""
    return replace(fare_quick(), anchor=lore_lite().anchor, primal_steps=lore_lite().primal_steps)


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


def _drawn_lite(recipe: RunConfig) -> RunConfig:
    """The budget of `seaanchor-lite` against drawn words: letters as large as it reads, half of the class words, a rate
    for a small tower."""
    drawings = replace(recipe.perturbation, sizes=(0.19, 0.38), words="even", variants=10)
    return replace(
        recipe,
        model="seaanchor-lite",
        train_data="photos/train",
        perturbation=drawings,
        batch_size=32,
        epochs=8,
        lr=2e-4,
        fold_norms=True,
        warmup=10,
        optimizer="adamw",
        precision="bf16",
        log_every=10,
    )


def dpo_lite() -> RunConfig:
    """DPO against typographic attacks as it made `seaanchor-lite-dpo`."""
    recipe = _drawn_lite(dpo())
    return replace(recipe, objective=replace(recipe.objective, beta=0.1))


def dpo_lore_lite() -> RunConfig:
    """DPO against typographic attacks at the size of `seaanchor-lite`, under LORE's constraint: it keeps what the model
    knows elsewhere, where the KL holds the training classes alone."""
    anchor = AnchorConfig("lagrangian", rho=0.1, dual_lr=5e-4, initial_multiplier=0.003, max_multiplier=20.0)
    return replace(dpo_lite(), anchor=anchor)


def ipo_lite() -> RunConfig:
    """IPO against typographic attacks at the size of `seaanchor-lite`."""
    return _drawn_lite(ipo())


def kto_lite() -> RunConfig:
    """KTO against typographic attacks at the size of `seaanchor-lite`."""
    return _drawn_lite(kto())


def ppo_lite() -> RunConfig:
    """PPO against typographic attacks at the size of `seaanchor-lite`, in one update a batch as the others."""
    return replace(_drawn_lite(ppo()), primal_steps=1)


def typographic_ce_lite() -> RunConfig:
    """The supervised baseline of `dpo-lite`."""
    return _drawn_lite(typographic_ce())


def dpo_linear_lite() -> RunConfig:
    """The slider at the size of `seaanchor-lite`, for t ≥ 0; with `orthogonality` 0.3 also below."""
    recipe = _drawn_lite(dpo_linear())
    return replace(
        recipe,
        batch_size=64,
        lr=3e-3,
        epochs=60,
        anchor=AnchorConfig("kl", weight=0.1),
        adapter=AdapterConfig("linear", orthogonality=0.03),
        fold_norms=False,
    )


def ipo_tiny() -> RunConfig:
    """IPO against typographic attacks at the embedded model's size."""
    return _drawn(ipo())


def kto_tiny() -> RunConfig:
    """KTO against typographic attacks at the embedded model's size."""
    return _drawn(kto())


def ppo_tiny() -> RunConfig:
    """PPO against typographic attacks at the embedded model's size."""
    return _drawn(ppo())


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
