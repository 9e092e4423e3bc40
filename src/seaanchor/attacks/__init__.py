"""Attacks on any model: PGD, APGD, Square, AutoAttack, the attack on embeddings, words drawn on images, and
random numbers that belong to an image.

Names are imported on first use: `import seaanchor.attacks` does not import torch.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "APGD": "classifiers",
    "AttackResult": "classification",
    "AutoAttack": "classifiers",
    "Ball": "ball",
    "EmbeddingAttack": "embedding",
    "EmbeddingAttackResult": "embedding",
    "PGD": "classifiers",
    "Square": "classifiers",
    "next_key": "noise",
    "normal": "noise",
    "typographic": "word_on_image",
    "uniform": "noise",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
