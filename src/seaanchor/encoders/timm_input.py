"""timm's data configuration as `InputSettings`, and back."""

import math
from collections.abc import Mapping
from typing import Any

from seaanchor.data.preprocessing import CHOICES, Fill, Preprocessing
from seaanchor.encoders.input_settings import InputSettings, Triple, known_choice, triple
from seaanchor.errors import SeaAnchorError

CROP_MODES = {"center": "shortest", "squash": "squash", "border": "longest"}
INTERPOLATIONS = {name: name for name in CHOICES["interpolation"]}


def from_timm(name: str, config: Mapping[str, Any], image_size: int | None = None) -> InputSettings:
    """What `timm.data.create_transform(**config, is_training=False)` does to an RGB picture.

    Args:
        name: of the model, for messages.
        config: of `timm.data.resolve_data_config`.
        image_size: side in pixels in place of the configuration's.

    Raises:
        SeaAnchorError: an input that is no square of three channels, or a setting that timm does not know.
    """
    channels, height, width = config["input_size"]
    if channels != 3:
        raise SeaAnchorError(f"{name} takes images of {channels} channels", "three, red, green and blue", "correct it")
    if height != width and image_size is None:
        raise SeaAnchorError(
            f"{name} takes images of {height} x {width} pixels", "a square input", "set --image-size, or take another"
        )
    side, part = image_size or height, config["crop_pct"]
    if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= side:
        raise SeaAnchorError(f"the preprocessing of {name} has crop_pct {part!r}", "a share above 0", "correct it")
    mean, std = (triple(name, key, config[key]) for key in ("mean", "std"))
    mode = known_choice(name, "crop_mode", config["crop_mode"], CROP_MODES)
    how = Preprocessing(
        side,
        mode,
        known_choice(name, "interpolation", config["interpolation"], INTERPOLATIONS),
        math.floor(side / part),
        border(mean) if mode == "longest" else 0,
        colours="rgb",
    )
    return InputSettings(how, mean, std)


def to_timm(name: str, settings: InputSettings, crop_pct: float) -> dict[str, Any]:
    """The values of timm's `pretrained_cfg` with which timm does the same.

    Args:
        name: of the model, for messages.
        settings: what is done.
        crop_pct: as it was, which stays where it gives the same.

    Raises:
        SeaAnchorError: timm cannot do it.
    """
    how = settings.preprocessing
    modes = {mode: crop_mode for crop_mode, mode in CROP_MODES.items()}
    fill: Fill = border(settings.mean) if how.resize_mode == "longest" else 0
    same = Preprocessing(how.size, how.resize_mode, how.interpolation, how.resize_size, fill, colours="rgb")
    if how != same or how.resize_mode not in modes:
        raise SeaAnchorError(
            f"{name} with the preprocessing {how}",
            f"what timm can do: resize_mode {', '.join(modes)}, padded with the mean; any interpolation, resize_size",
            "take the rest out of --preprocess",
        )
    side = how.resize_size or how.size
    if math.floor(how.size / crop_pct) != side:
        crop_pct = 1.0 if side == how.size else how.size / (side + 0.5)
    return {
        "input_size": [3, how.size, how.size],
        "interpolation": how.interpolation,
        "crop_pct": crop_pct,
        "crop_mode": modes[how.resize_mode],
        "mean": list(settings.mean),
        "std": list(settings.std),
    }


def border(mean: Triple) -> tuple[int, int, int]:
    """What timm pads with: the mean, as levels in [0, 255]."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
