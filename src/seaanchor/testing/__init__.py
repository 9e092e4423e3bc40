"""The contract of every part, as functions for a test of one's own: `check_objective(MyLoss())`.

Each builds small inputs itself and raises an AssertionError that names the broken rule. Our own parts pass the same
checks. Names are imported on first use.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "check_adapter": "adapter",
    "check_anchor": "anchor",
    "check_encoder": "encoder",
    "check_objective": "objective",
    "check_perturbation": "perturbation",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.testing.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'seaanchor.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
