"""Adapters: which parameters move.

Names are imported on first use: `import seaanchor.adapters` does not import torch.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "Full": "full",
    "LastBlocks": "last_blocks",
    "Linear": "linear_map",
    "LinearMap": "linear_map",
    "LoRA": "lora",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
