"""Image data: folders, shards, tables, preferences, and the data sets of PyTorch.

Public names are imported on first use.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "ClassifiedImages": "types",
    "PreferenceImages": "types",
    "TypographicImages": "types",
    "UnlabelledImages": "types",
    "from_dataset": "dataset",
    "image_folder": "sources",
    "open_images": "sources",
    "preferences": "sources",
}

__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"seaanchor.data.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'seaanchor.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
