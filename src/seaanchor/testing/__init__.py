"""The contract of every part, as functions for a test of one's own: `check_objective(MyLoss())`.

Each builds small inputs itself and raises an AssertionError that names the broken rule. Our own parts pass the same
checks. Names are imported on first use.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "Library": "library",
    "check_adapter": "adapter",
    "check_anchor": "anchor",
    "check_encoder": "encoder",
    "check_objective": "objective",
    "check_perturbation": "perturbation",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
