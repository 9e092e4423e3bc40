"""Attacks on any model: PGD, APGD, Square, AutoAttack, the attack on embeddings, and words drawn on images.

Names are imported on first use: `import seaanchor.attacks` does not import torch.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "APGD": "classifiers",
    "AttackResult": "classification",
    "AutoAttack": "classifiers",
    "Ball": "ball",
    "EmbeddingAttack": "embedding",
    "EmbeddingAttackResult": "embedding",
    "PGD": "classifiers",
    "Square": "classifiers",
    "typographic": "word_on_image",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.attacks.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'seaanchor.attacks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
