"""Adapters: which parameters move.

Names are imported on first use: `import seaanchor.adapters` does not import torch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "Full": "full",
    "Linear": "linear_map",
    "LinearMap": "linear_map",
    "LoRA": "lora",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.adapters.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'seaanchor.adapters' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
