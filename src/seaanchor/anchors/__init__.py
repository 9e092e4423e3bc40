"""Anchors: how the policy is kept near the reference.

Names are imported on first use: `import seaanchor.anchors` does not import torch.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "Dual": "duals",
    "Lagrangian": "lagrangian",
    "MultiplierTable": "table",
    "NoAnchor": "penalty",
    "NuPI": "control",
    "Penalty": "penalty",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
