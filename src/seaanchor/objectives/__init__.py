"""Objectives: what should become better, as parts of a method and as pure losses for training loops of one's own.

Names are imported on first use: `import seaanchor.objectives` does not import torch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "CrossEntropy": "supervised",
    "DPO": "preference",
    "EmbeddingDistance": "embedding",
    "IPO": "preference",
    "KTO": "preference",
    "TeCoA": "supervised",
    "cross_entropy_loss": "losses",
    "dpo_loss": "losses",
    "embedding_distance_loss": "losses",
    "ipo_loss": "losses",
    "kto_loss": "losses",
    "log_ratio_margin": "losses",
    "tecoa_loss": "losses",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.objectives.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'seaanchor.objectives' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
