"""Perturbations: on which hard inputs.

Names are imported on first use: `import seaanchor.perturbations` does not import torch.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "APGD": "apgd",
    "AttributeSwap": "attribute",
    "Chain": "chain",
    "NoPerturbation": "none",
    "PGD": "pgd",
    "Typographic": "typographic",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
