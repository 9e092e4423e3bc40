"""Settings of a run as flags."""

from collections import Counter
from collections.abc import Collection
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, get_type_hints

from cyclopts import Parameter, default_name_transform

from seaanchor.cli.option_groups import Groups, as_flags, panels
from seaanchor.config.schema import RunConfig

GROUPS: Groups = {
    "Model": ("model", "pretrained", "image_size", "head", "tokens", "preprocess"),
    "Data": ("train_data", "train_samples", "val_data", "class_names", "templates", "workers"),
    "Method": (
        "objective.kind",
        "anchor.kind",
        "adapter.kind",
        "anchor.rho",
        "objective.beta",
        "anchor.weight",
        "adapter.last_blocks",
        "adapter.rank",
        "adapter.alpha",
        "adapter.orthogonality",
        "anchor.space",
        "anchor.margin",
        "anchor.dual",
        "anchor.dual_lr",
        "anchor.initial_multiplier",
        "anchor.max_multiplier",
        "anchor.rho_start",
        "anchor.rho_steps",
        "unit_embeddings",
        "objective.relative",
        "anchor.relative",
        "objective.label_smoothing",
        "objective.reference_free",
        "objective.desirable_weight",
        "objective.undesirable_weight",
        "objective.clip",
        "anchor.dual_control",
        "anchor.dual_proportional",
        "anchor.dual_smoothing",
        "anchor.dual_hidden",
        "anchor.exact_dual",
        "anchor.violators_only",
        "anchor.augmented",
        "anchor.reference",
        "anchor.reference_decay",
        "objective.options",
        "anchor.options",
        "adapter.options",
    ),
    "Attack": (
        "perturbation.epsilon",
        "perturbation.kind",
        "perturbation.norm",
        "perturbation.num_steps",
        "perturbation.step_size",
        "perturbation.random_start",
        "perturbation.momentum",
        "attack_precision",
        "perturbation.words",
        "perturbation.fonts",
        "perturbation.sizes",
        "perturbation.variants",
        "perturbation.swap",
        "perturbation.flip",
        "perturbation.options",
    ),
    "Optimisation": (
        "max_steps",
        "epochs",
        "batch_size",
        "lr",
        "wd",
        "warmup",
        "precision",
        "grad_accumulation",
        "slice_size",
        "optimizer",
        "grad_clip",
        "fold_norms",
        "primal_steps",
        "average",
        "ema_decay",
        "tail_share",
        "checkpoint_activations",
        "compile",
        "shard",
    ),
    "Run": (
        "output",
        "dry_run",
        "device",
        "resume",
        "seed",
        "eval_every",
        "eval_samples",
        "log_every",
        "save_every",
        "report_to",
        "dry_run_on",
        "dry_run_images",
        "plugin",
        "plugins",
    ),
}
PANELS = panels(GROUPS)
SWEEP = ("suite", "epsilon", "num_steps", "samples", "words", "fonts", "sizes", "vary", "points", "seeds", "data")
"""Options that `sweep` has of its own."""


def nested_settings() -> list[str]:
    """Dotted names of all settings in sections, such as `anchor.rho`."""
    hints = get_type_hints(RunConfig)
    sections = [(name, hint) for name, hint in hints.items() if is_dataclass(hint)]
    return [f"{name}.{one.name}" for name, hint in sections for one in fields(hint)]  # type: ignore[arg-type]


def short_forms(taken: Collection[str] = ()) -> list[str]:
    """The nested settings whose last name alone says which is meant, dotted.

    Args:
        taken: names that mean something else in a command.
    """
    nested = nested_settings()
    count = Counter(name.rpartition(".")[2] for name in nested)
    count.update([*taken, *(one.name for one in fields(RunConfig))])
    return [name for name in nested if count[name.rpartition(".")[2]] == 1]


def _flag(name: str) -> str:
    """The flag of a setting; `--plugin my_module` names one of the plugins."""
    return {"plugins": "plugin"}.get(name) or default_name_transform(name)


_HOW = Parameter(name="*", consume_multiple=True, name_transform=_flag)
if TYPE_CHECKING:
    Settings = RunConfig
    SweepSettings = RunConfig
else:
    Settings = Annotated[as_flags(RunConfig, PANELS, short_forms()), _HOW]
    """Every setting of a run as a flag of its name, and of its last name where that is unique."""
    SweepSettings = Annotated[as_flags(RunConfig, PANELS, short_forms(SWEEP)), _HOW]
    """The same, where `sweep` has no option of that last name."""
