"""Model names that are paths: which library wrote a folder, and what to say of a path that leads nowhere."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from seaanchor.encoders.embedded import embedded_models
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.paths import beside
from seaanchor.utils.plain_files import parse_json

FOLDER_PREFIXES = ("timm:local-dir:", "local-dir:", "hf:")


def with_prefix(name: str) -> str:
    """The name of a model with the prefix of the library that wrote its folder; anything but such a folder as it is.

    Args:
        name: of a model, such as `runs/x/export`, which becomes `timm:local-dir:runs/x/export` for an export of timm.
    """
    folder = Path(name)
    if name in embedded_models() or os.path.isfile(folder / "open_clip_config.json"):
        return name
    config = settings_in(folder)
    if "architecture" in config:
        return f"timm:local-dir:{name}"
    return f"hf:{name}" if "model_type" in config else name


def folder_of(name: str) -> Path | None:
    """The folder that a model's name stands for, with a prefix or without; None for an embedded model and for a name
    that is no folder's.

    >>> folder_of("seaanchor-tiny"), folder_of("timm:resnet10t")
    (None, None)
    """
    folder = path_of(name)
    return folder if name not in embedded_models() and os.path.isdir(folder) else None


def path_of(name: str) -> Path:
    """Where a model lies that is named by its path, with or without the prefix of its library."""
    prefix = next((prefix for prefix in FOLDER_PREFIXES if name.startswith(prefix)), "")
    return Path(name.removeprefix(prefix))


def settings_in(folder: Path) -> dict[str, Any]:
    """The folder's config.json, as timm and transformers write it; empty if there is none."""
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def check_path(name: str) -> None:
    """Raise a SeaAnchorError for a name without a prefix that can only be a path, and leads to no model."""
    path = Path(name)
    if os.path.exists(path):  # False for a name that is too long
        inside = path / "export"
        export = f"for the export of this run write {inside}" if inside.is_dir() else "name the folder of a model"
        if path.is_file():
            export = f"for a file of weights name its architecture: --model NAME or timm:NAME, --pretrained {name}"
        expected = "a folder with open_clip_config.json, or with the config.json of timm or of transformers"
        raise SeaAnchorError(f"{name} holds no model", expected, export)
    if "/" not in name and not name.startswith((".", "~")):
        return
    on_hub = name.count("/") == 1 and not os.path.isdir(path.parent) and not name.startswith((".", "/", "~"))
    if on_hub and _is_architecture(plain := name.replace("/", "-")):
        found, expected = f"the path {name} does not exist", "the folder of a model, or a name of OpenCLIP's"
        raise SeaAnchorError(found, expected, f"did you mean {plain}?")
    near = get_close_matches(path.name, beside(path), n=1)
    change = f"did you mean {path.with_name(near[0])}?" if near else "correct the path"
    also = f", or for a model on the Hub write hf-hub:{name} or hf:{name}" if on_hub else ""
    raise SeaAnchorError(f"the path {name} does not exist", "the folder of a model", f"{change}{also}")


def _is_architecture(name: str) -> bool:
    import open_clip

    return name in open_clip.list_models()
