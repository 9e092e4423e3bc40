"""Whether pictures become the same pixels for every published tag of OpenCLIP, whose weights that does not take.

Legend: C channels, H W pixels.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from seaanchor.data.images import read_image
from seaanchor.encoders.openclip_input import from_open_clip, tag_config
from seaanchor.testing.library import photos

KEYS = ("mean", "std", "interpolation", "resize_mode")


def compare_tags() -> dict[str, Any]:
    """The number of tags, of different settings among them, and the tags whose pixels differ."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2

    groups: dict[str, list[tuple[str, str]]] = {}
    for name, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(name, tag)
        said = {key: config[key] for key in KEYS if config.get(key) is not None}
        size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
        groups.setdefault(repr((size, sorted(said.items()))), []).append((name, tag))
    different: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        files = list(photos(Path(folder)))
        for members in groups.values():
            name, tag = members[0]
            config = open_clip.get_pretrained_cfg(name, tag)
            size = open_clip.get_model_config(name)["vision_cfg"]["image_size"]
            said = {key: config[key] for key in KEYS if config.get(key) is not None}
            theirs = image_transform_v2(
                PreprocessCfg(**asdict(PreprocessCfg()) | said | {"size": size}), is_train=False
            )
            for member, own in members:
                settings = from_open_clip(member, tag_config(member, own), size)
                if (member, own) == (name, tag):
                    first, equal = settings, all(_equal(file, settings, theirs) for file in files)
                if not equal or settings != first:
                    different.append(f"{member} {own}")
    return {"tags": sum(map(len, groups.values())), "settings": len(groups), "different": different}


def _equal(file: Path, settings: Any, theirs: Any) -> bool:
    mean_C, std_C = (torch.tensor(values).view(-1, 1, 1) for values in (settings.mean, settings.std))
    ours: Tensor = (read_image(file, settings.preprocessing).float() / 255 - mean_C) / std_C
    with Image.open(file) as image:
        wanted = theirs(image)
    return ours.shape == wanted.shape and float((ours - wanted).abs().max()) <= 1e-3
