"""Sea Anchor: pre-trained visual encoders made trustworthy, always against a frozen copy of themselves.

Public names are imported on first use, so that `import seaanchor` costs next to nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Batch": "types",
    "Embeddings": "types",
    "Head": "types",
    "Targets": "types",
    "Constraint": "types",
    "AnchorTerms": "types",
    "BindContext": "types",
    "LossOf": "types",
    "Needs": "types",
    "Preference": "types",
    "register": "registry",
    "load_plugin": "registry",
    "input_grad": "functional.gradients",
    "Method": "method",
    "RunConfig": "config.schema",
    "RECIPES": "config.recipes",
    "assemble": "config.assemble",
    "train_from_config": "api",
    "Encoder": "encoders.encoder",
    "Reference": "encoders.encoder",
    "LoadedModel": "encoders.encoder",
    "load_model": "encoders.load",
    "build_head": "encoders.heads",
    "Ball": "attacks.ball",
    "PGD": "perturbations.pgd",
    "APGD": "perturbations.apgd",
    "apgd_ce": "attacks.apgd_classifier",
    "apgd_targeted": "attacks.apgd_classifier",
    "AttackResult": "attacks.classification",
    "evaluate": "evaluation.run",
    "export_model": "export.folder",
    "SeaAnchorError": "errors",
}

_MODULES = ("methods", "objectives", "anchors", "perturbations", "adapters")
"""Folders and files that are reached by their own name, such as `seaanchor.methods.lore`."""

__all__ = ["__version__", *sorted(_NAMES)]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.{_NAMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"seaanchor.{name}")
    raise AttributeError(f"module 'seaanchor' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
