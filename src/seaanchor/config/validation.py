"""Which settings go together: the checks that need more than one field of a configuration.

Nothing here imports torch, so that a mistake in a recipe is found before anything slow happens.
"""

from typing import Any

from seaanchor.config.schema import RunConfig, parse_epsilon
from seaanchor.errors import SeaAnchorError

PREFERENCE = ("dpo", "ipo", "kto")
GRADIENT = ("pgd", "apgd", "typographic+pgd", "typographic+apgd")
DRAWN = ("typographic", "typographic+pgd", "typographic+apgd")


def check(config: RunConfig) -> RunConfig:
    """The configuration itself, if its parts go together.

    Raises:
        SeaAnchorError: names the first thing that does not, before any weights load.
    """
    perturbation, anchor = config.perturbation, config.anchor
    parse_epsilon(perturbation.epsilon, perturbation.norm)
    if perturbation.step_size is not None:
        parse_epsilon(perturbation.step_size, perturbation.norm)
    for name, value, low in (
        ("batch_size", config.batch_size, 1),
        ("grad_accumulation", config.grad_accumulation, 1),
        ("epochs", config.epochs, 1),
        ("primal_steps", config.primal_steps, 1),
        ("lr", config.lr, 0),
        ("wd", config.wd, 0),
        ("anchor.rho", anchor.rho, 0),
        ("anchor.weight", anchor.weight, 0),
        ("anchor.augmented", anchor.augmented, 0),
        ("anchor.dual_lr", anchor.dual_lr, 0),
        ("anchor.dual_hidden", anchor.dual_hidden, 1),
        ("perturbation.num_steps", perturbation.num_steps, 0),
        ("perturbation.momentum", perturbation.momentum, 0),
        ("perturbation.variants", perturbation.variants, 0),
        ("adapter.rank", config.adapter.rank, 1),
        ("adapter.orthogonality", config.adapter.orthogonality, 0),
        ("adapter.alpha", config.adapter.alpha, 1),
        ("objective.desirable_weight", config.objective.desirable_weight, 0),
        ("objective.undesirable_weight", config.objective.undesirable_weight, 0),
        ("save_every", config.save_every, 1),
        ("log_every", config.log_every, 1),
        ("warmup", config.warmup, 0),
        ("workers", config.workers, 0),
        ("max_steps", config.max_steps, 1),
        ("image_size", config.image_size, 1),
        ("eval_every", config.eval_every, 1),
        ("train_samples", config.train_samples, 1),
        ("eval_samples", config.eval_samples, 1),
    ):
        if value is not None and not low <= value < float("inf"):
            raise SeaAnchorError(f"{name} is {value}", f"a finite number of at least {low}", "correct it")
    positive = {
        "anchor.initial_multiplier": anchor.initial_multiplier,
        "anchor.max_multiplier": anchor.max_multiplier,
        "grad_clip": config.grad_clip,
    }
    for name, value in positive.items():
        if value is not None and not 0 < value < float("inf"):
            raise SeaAnchorError(f"{name} is {value}", "a positive finite number", "try 1.0")
    if bool(config.eval_every) != bool(config.val_data):
        missing = "val_data" if config.eval_every else "eval_every"
        raise SeaAnchorError(
            f"evaluation while training without {missing}", "eval_every and val_data, or neither", f"set {missing}"
        )
    _check_composition(config)
    for template in config.templates:
        if "{}" not in template:
            raise SeaAnchorError(
                f"the template {template!r} has no {{}}",
                "a place for the class name, as in 'a photo of a {}.'",
                "add {}",
            )
    return config


def _check_composition(config: RunConfig) -> None:
    """Objective, anchor, perturbation and adapter against each other, before any weights load."""
    objective, anchor, perturbation, adapter = (
        part.kind for part in (config.objective, config.anchor, config.perturbation, config.adapter)
    )
    illegal = {
        "objective embedding_distance with perturbation none is 0 from the start: the policy already is the "
        "reference": (
            objective == "embedding_distance" and perturbation == "none",
            "a perturbation that changes the image: pgd, apgd, typographic",
        ),
        "perturbation attribute changes texts, which only preferences look at": (
            perturbation == "attribute" and objective not in PREFERENCE,
            "objective dpo, ipo or kto",
        ),
        f"adapter linear with perturbation {perturbation} would attack pixels, but it trains on embeddings "
        "computed once": (
            adapter == "linear" and perturbation in GRADIENT,
            "perturbation typographic, attribute or none",
        ),
        f"adapter linear with objective {objective}: a map of both sides has no reference embedding to return to": (
            adapter == "linear" and objective == "embedding_distance",
            "objective dpo, ipo, kto, cross_entropy or tecoa",
        ),
        f"adapter linear with anchor {anchor} on embeddings, which a map of both sides may turn freely": (
            adapter == "linear" and anchor in ("penalty", "lagrangian") and config.anchor.space == "embedding",
            "anchor.space distribution, or anchor kl",
        ),
        "adapter linear draws words anew at every step, but it trains on embeddings computed once": (
            adapter == "linear" and perturbation == "typographic" and config.perturbation.variants == 0,
            "perturbation.variants of at least 1",
        ),
        f"anchor.reference {config.anchor.reference} with anchor none, which holds nothing": (
            anchor == "none" and config.anchor.reference != "frozen",
            "anchor penalty, kl or lagrangian",
        ),
        "adapter linear with unit_embeddings, which a map would not leave at length 1": (
            adapter == "linear" and config.unit_embeddings,
            "raw embeddings",
        ),
        "anchor.augmented with anchor.rho 0, by which a violation is divided": (
            anchor == "lagrangian" and config.anchor.augmented > 0 and config.anchor.rho == 0,
            "a positive rho",
        ),
        "adapter linear with evaluation while training, which looks at the tower": (
            adapter == "linear" and bool(config.eval_every),
            "no eval_every",
        ),
        "adapter linear with checkpoint_activations, which are those of the tower": (
            adapter == "linear" and config.checkpoint_activations,
            "adapter full or lora",
        ),
        f"shard with adapter {adapter}, which trains too few numbers to split": (
            config.shard and adapter != "full",
            "adapter full",
        ),
        f"attack_precision bf16 with perturbation {perturbation}, which takes no gradient": (
            config.attack_precision == "bf16" and perturbation not in GRADIENT,
            "a gradient attack, such as pgd",
        ),
    }
    for found, (applies, legal) in illegal.items():
        if applies:
            raise SeaAnchorError(found, legal, "change one of the two")
    if objective in PREFERENCE and not 0 < config.objective.beta < float("inf"):
        raise SeaAnchorError(f"objective.beta is {config.objective.beta}", "a positive number", "try 1.0")
    if not 0 <= config.objective.label_smoothing < 0.5:
        raise SeaAnchorError(
            f"objective.label_smoothing is {config.objective.label_smoothing}", "a share in [0, 0.5)", "correct it"
        )
    for name, decay in (("ema_decay", config.ema_decay), ("anchor.reference_decay", config.anchor.reference_decay)):
        if not 0 < decay < 1:
            raise SeaAnchorError(f"{name} is {decay}", "a number between 0 and 1, such as 0.99", "correct it")
    sizes = config.perturbation.sizes
    if len(sizes) != 2 or not 0 < sizes[0] <= sizes[1] <= 1:
        raise SeaAnchorError(
            f"perturbation.sizes is {sizes}",
            "smallest and largest share of the image's side, such as 0.09 0.18",
            "correct it",
        )


def needs_head(config: RunConfig) -> bool:
    """Whether training needs a zero-shot head, hence a text tower."""
    distribution = config.anchor.kind == "kl" or (
        config.anchor.kind != "none" and config.anchor.space == "distribution"
    )
    return config.objective.kind != "embedding_distance" or distribution


def needs_classes(config: RunConfig) -> bool:
    """Whether training needs class names or candidate texts: for a head, or to draw or swap words."""
    return needs_head(config) or config.perturbation.kind in (*DRAWN, "attribute")


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, as `name: old → new`; what may change between a run and its resumption is left out."""
    free = {
        "resume",
        "output",
        "device",
        "workers",
        "save_every",
        "log_every",
        "report_to",
        "eval_every",
        "eval_samples",
        "val_data",
    }
    free |= {"checkpoint_activations", "shard"}
    free |= {
        "batch_size",
        "grad_accumulation",
    }  # these times the number of processes must stay: the run folder checks it
    changed = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            changed += differences(before, after, f"{prefix}{key}.")
        elif before != after and prefix + key not in free:
            changed.append(f"{prefix}{key}: {before} → {after}")
    return changed
