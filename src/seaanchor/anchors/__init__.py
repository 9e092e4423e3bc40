"""Anchors: how the policy is kept near the reference.

Names are imported on first use: `import seaanchor.anchors` does not import torch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "Dual": "duals",
    "Lagrangian": "lagrangian",
    "NoAnchor": "penalty",
    "Penalty": "penalty",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.anchors.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'seaanchor.anchors' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
