"""Which settings go together: the checks that need more than one field of a configuration.

Ranges come first and import nothing heavy. Which parts go together is read from what they declare (`seaanchor.Needs`),
and nothing here knows a part by its name.
"""

from typing import TYPE_CHECKING, Any

from seaanchor import registry
from seaanchor.config.assemble import method_of, sections
from seaanchor.config.composition import asks_for_classes, check_composition
from seaanchor.config.schema import RunConfig, parse_epsilon
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.numbers import check_seed

if TYPE_CHECKING:
    from seaanchor.method import Method


def check(config: RunConfig, method: "Method | None" = None) -> RunConfig:
    """The configuration itself, if its parts go together.

    Args:
        config: a configuration.
        method: the parts themselves where they were given as objects; else those that the configuration describes.

    Raises:
        SeaAnchorError: names the first thing that does not, before any weights load.
    """
    _check_ranges(config)
    _check_shares(config)
    if bool(config.eval_every) != bool(config.val_data):
        missing = "val_data" if config.eval_every else "eval_every"
        raise SeaAnchorError(
            f"evaluation while training without {missing}", "eval_every and val_data, or neither", f"set {missing}"
        )
    for template in config.templates:
        if "{}" not in template:
            raise SeaAnchorError(
                f"the template {template!r} has no {{}}",
                "a place for the class name, as in 'a photo of a {}.'",
                "add {}",
            )
    for section in sections(config):
        registry.check_kind(section.part, section.kind)
    check_composition(config, method or method_of(config))
    return config


def _check_ranges(config: RunConfig) -> None:
    """Radii and numbers, each by itself."""
    check_seed(config.seed)
    perturbation, anchor = config.perturbation, config.anchor
    for name in ("epsilon", "step_size"):
        if (radius := getattr(perturbation, name)) is not None or name == "epsilon":
            parse_epsilon(radius, perturbation.norm, config.image_size, f"perturbation.{name}")
    for name, value, low in (
        ("batch_size", config.batch_size, 1),
        ("grad_accumulation", config.grad_accumulation, 1),
        ("slice_size", config.slice_size, 1),
        ("epochs", config.epochs, 1),
        ("primal_steps", config.primal_steps, 1),
        ("lr", config.lr, 0),
        ("wd", config.wd, 0),
        ("anchor.rho", anchor.rho, 0),
        ("anchor.weight", anchor.weight, 0),
        ("anchor.augmented", anchor.augmented, 0),
        ("anchor.dual_lr", anchor.dual_lr, 0),
        ("anchor.dual_hidden", anchor.dual_hidden, 1),
        ("anchor.dual_proportional", anchor.dual_proportional, 0),
        ("anchor.rho_steps", anchor.rho_steps, 0),
        ("perturbation.num_steps", perturbation.num_steps, 0),
        ("perturbation.momentum", perturbation.momentum, 0),
        ("perturbation.variants", perturbation.variants, 0),
        ("adapter.last_blocks", config.adapter.last_blocks, 1),
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
        "anchor.rho_start": anchor.rho_start,
        "anchor.initial_multiplier": anchor.initial_multiplier,
        "anchor.max_multiplier": anchor.max_multiplier,
        "grad_clip": config.grad_clip,
    }
    for name, value in positive.items():
        if value is not None and not 0 < value < float("inf"):
            raise SeaAnchorError(f"{name} is {value}", "a positive finite number", "try 1.0")


def _check_shares(config: RunConfig) -> None:
    """Settings that are shares, with limits of their own."""
    if not 0 <= config.objective.label_smoothing < 0.5:
        raise SeaAnchorError(
            f"objective.label_smoothing is {config.objective.label_smoothing}", "a share in [0, 0.5)", "correct it"
        )
    if not 0 <= config.anchor.dual_smoothing < 1:
        raise SeaAnchorError(
            f"anchor.dual_smoothing is {config.anchor.dual_smoothing}", "a decay in [0, 1)", "correct it"
        )
    if not 0 < config.tail_share <= 1:
        raise SeaAnchorError(f"tail_share is {config.tail_share}", "a share in (0, 1]", "correct it")
    if not 0 < config.objective.clip < 1:
        raise SeaAnchorError(f"objective.clip is {config.objective.clip}", "a share in (0, 1)", "try 0.2")
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
    return method_of(config).needs.head


def needs_classes(config: RunConfig) -> bool:
    """Whether training needs class names or candidate texts: for a head or labels, or to draw or swap words."""
    return asks_for_classes(method_of(config).needs)


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
        "plugins",
    }
    free |= {"checkpoint_activations", "compile", "shard", "slice_size"}
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
