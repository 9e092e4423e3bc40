"""Attacks on any model: PGD, APGD, Square, AutoAttack, the attack on embeddings, and words drawn on images.

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
    "typographic": "word_on_image",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
