"""Image data: folders, shards, tables, preferences, and the data sets of PyTorch.

Public names are imported on first use.
"""

from seaanchor.utils.lazy import lazy_names

_NAMES = {
    "ClassifiedImages": "types",
    "PreferenceImages": "types",
    "SegmentedImages": "types",
    "TypographicImages": "types",
    "UnlabelledImages": "types",
    "from_dataset": "dataset",
    "image_folder": "sources",
    "open_images": "sources",
    "open_segmented": "masks",
    "preferences": "sources",
}

__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy_names(__name__, _NAMES)
