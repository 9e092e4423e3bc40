"""Objectives: what should become better, as parts of a method and as pure losses for training loops of one's own.

Names are imported on first use: `import seaanchor.objectives` does not import torch.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "CrossEntropy": "supervised",
    "DPO": "preference",
    "EmbeddingDistance": "embedding",
    "IPO": "preference",
    "KTO": "preference",
    "PPO": "policy_gradient",
    "TeCoA": "supervised",
    "cross_entropy_loss": "losses",
    "dpo_loss": "losses",
    "embedding_distance_loss": "losses",
    "ipo_loss": "losses",
    "kto_loss": "losses",
    "log_ratio_margin": "losses",
    "ppo_loss": "losses",
    "tecoa_loss": "losses",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
