"""Perturbations: on which hard inputs.

Names are imported on first use: `import seaanchor.perturbations` does not import torch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "APGD": "apgd",
    "AttributeSwap": "attribute",
    "Chain": "chain",
    "NoPerturbation": "none",
    "PGD": "pgd",
    "Typographic": "typographic",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.perturbations.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'seaanchor.perturbations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
