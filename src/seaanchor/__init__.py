"""Sea Anchor: pre-trained visual encoders made trustworthy, always against a frozen copy of themselves.

Public names are imported on first use, so that `import seaanchor` costs next to nothing.
"""

from seaanchor.utils.lazy import lazy_names

__version__ = "0.1.0"

_NAMES = {
    "AnchorTerms": "types",
    "Batch": "types",
    "BindContext": "types",
    "Constraint": "types",
    "Embeddings": "types",
    "Encoder": "encoders.encoder",
    "EvaluationResult": "evaluation.results",
    "Head": "types",
    "LoadedModel": "encoders.encoder",
    "LossOf": "types",
    "Method": "method",
    "Needs": "types",
    "Preference": "types",
    "Preprocessing": "data.preprocessing",
    "RECIPES": "config.recipes",
    "Run": "api",
    "RunConfig": "config.schema",
    "SeaAnchorError": "errors",
    "Targets": "types",
    "TypographicPlan": "evaluation.typographic_plan",
    "build_head": "encoders.heads",
    "evaluate": "api",
    "export_model": "report.model_card",
    "input_grad": "functional.gradients",
    "load_model": "encoders.load",
    "load_plugin": "registry",
    "register": "registry",
    "train": "api",
    "train_from_config": "api",
}
_MODULES = ("adapters", "anchors", "attacks", "data", "methods", "objectives", "perturbations", "testing")
"""Folders and files that are reached by their own name, such as `seaanchor.methods.lore`."""

__all__ = ["__version__", *sorted(_NAMES)]
__getattr__, _ = lazy_names(__name__, _NAMES, _MODULES)


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]
