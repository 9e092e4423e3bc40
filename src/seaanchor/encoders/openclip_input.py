"""OpenCLIP's `preprocess_cfg` as `InputSettings`, and back; and what is assumed of weights from a file."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.input_settings import InputSettings, known_choice, triple
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.plain_files import read_object

RESIZE_MODES = {mode: mode for mode in ("shortest", "longest", "squash")}
INTERPOLATIONS = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}  # random is for training alone
OF_TAGS = ("mean", "std", "interpolation", "resize_mode")


def from_open_clip(name: str, config: Mapping[str, Any], size: int) -> InputSettings:
    """What `open_clip.image_transform_v2(config, is_train=False)` does.

    Args:
        name: of the model, for messages.
        config: `preprocess_cfg`; what is missing or None is open_clip's default. Its size is not looked at.
        size: side of the model's input in pixels.

    Raises:
        SeaAnchorError: a setting that open_clip does not know, or not three channels.
    """
    from open_clip.transform import PreprocessCfg

    given = {key: value for key, value in config.items() if value is not None}
    settings = {**vars(PreprocessCfg()), **given}
    if unknown := sorted(set(given) - set(vars(PreprocessCfg()))):
        note(f"the preprocessing of {name} has {', '.join(unknown)}, which open_clip does not read: left out here, too")
    if settings["mode"] != "RGB":
        raise SeaAnchorError(
            f"the preprocessing of {name} has mode {settings['mode']!r}", "RGB, three channels", "correct it"
        )
    fill = settings["fill_color"]
    if isinstance(fill, bool) or not isinstance(fill, int):
        raise SeaAnchorError(
            f"the preprocessing of {name} has fill_color {fill!r}", "one level in [0, 255]", "correct it"
        )
    how = Preprocessing(
        size,
        known_choice(name, "resize_mode", settings["resize_mode"], RESIZE_MODES),
        known_choice(name, "interpolation", settings["interpolation"], INTERPOLATIONS),
        fill=fill,
    )
    return InputSettings(how, triple(name, "mean", settings["mean"]), triple(name, "std", settings["std"]))


def to_open_clip(name: str, settings: InputSettings) -> dict[str, Any]:
    """The `preprocess_cfg` with which open_clip does the same.

    Raises:
        SeaAnchorError: open_clip cannot do it.
    """
    how = settings.preprocessing
    same = Preprocessing(how.size, how.resize_mode, how.interpolation, fill=how.fill)
    if how != same or how.resize_mode not in RESIZE_MODES or how.interpolation not in INTERPOLATIONS:
        raise SeaAnchorError(
            f"{name} with the preprocessing {how}",
            f"what open_clip can do: resize_mode {', '.join(RESIZE_MODES)}, interpolation bicubic or bilinear, one "
            "fill for all channels, and no other change",
            "take the rest out of --preprocess",
        )
    return {
        "size": how.size,
        "mode": "RGB",
        "mean": settings.mean,
        "std": settings.std,
        "interpolation": how.interpolation,
        "resize_mode": how.resize_mode,
        "fill_color": how.fill,
    }


def settle(name: str, source: str, from_file: bool, model: Any, size: int) -> InputSettings:
    """The settings of a model as it was loaded, which open_clip's own transform of it then has, too.

    Args:
        name: of the model, for messages.
        source: an OpenCLIP name, `local-dir:` or `hf-hub:`.
        from_file: whether weights for an OpenCLIP name are a file's.
        model: open_clip's; its configuration is set.
        size: side of its input in pixels.

    Raises:
        SeaAnchorError: as `from_open_clip` and `stored_config`.
    """
    import open_clip

    if source.startswith("local-dir:"):
        config = stored_config(name, Path(source.removeprefix("local-dir:")))
    elif from_file and not source.startswith("hf-hub:"):
        config = agreed_config(source)
    else:
        config = dict(open_clip.get_model_preprocess_cfg(model))
    settings = from_open_clip(name, config, size)
    set_config(model, to_open_clip(name, settings))
    return settings


def set_config(model: Any, config: Mapping[str, Any]) -> None:
    """Give a model of open_clip its `preprocess_cfg`."""
    from open_clip.model import set_model_preprocess_cfg

    set_model_preprocess_cfg(model, dict(config))


def tag_config(name: str, tag: str) -> dict[str, Any]:
    """The `preprocess_cfg` of a tag of a model; empty if there is no such tag."""
    import open_clip

    config = open_clip.get_pretrained_cfg(name, tag)
    return {key: config[key] for key in (*OF_TAGS, "fill_color") if config.get(key) is not None}


def agreed_config(name: str) -> dict[str, Any]:
    """What weights from a file of this architecture most likely were trained with: what its tags agree on. Where they
    do not, what most of them say, or open_clip's default; a note says so."""
    import open_clip

    tags = {tag: tag_config(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)}
    change = "--preprocess TAG or key=value changes it"
    if not tags:
        note(f"{name} from a file: it has no tags, so open_clip's default preprocessing is assumed; {change}")
        return {}
    agreed, others = {}, set()
    for key in OF_TAGS:
        counts = Counter(repr(config[key]) for config in tags.values())
        most, _ = counts.most_common(1)[0]
        agreed[key] = next(config[key] for config in tags.values() if repr(config[key]) == most)
        others |= {tag for tag, config in tags.items() if repr(config[key]) != most}
    if others:
        said = ", ".join(f"{key} {_short(agreed[key])}" for key in OF_TAGS)
        note(
            f"{name} from a file: {said} assumed, as for {len(tags) - len(others)} of its {len(tags)} tags, and not as "
            f"for {', '.join(sorted(others)[:3])}; {change}"
        )
    return agreed


def stored_config(name: str, folder: Path) -> dict[str, Any]:
    """The `preprocess_cfg` in a folder's file, of which open_clip leaves out what it does not know; without its size.

    Raises:
        SeaAnchorError: its size is not that of the tower in the same file.
    """
    config = read_object(folder / "open_clip_config.json")
    stored, size = dict(config.get("preprocess_cfg") or {}), config["model_cfg"]["vision_cfg"].get("image_size", 224)
    given = stored.pop("size", None)
    sides, own = (set(side) if isinstance(side, list) else {side} for side in (given, size))
    if given is not None and sides != own:
        raise SeaAnchorError(
            f"the preprocessing of {name} gives {given} pixels, and its tower takes {size}",
            "one size",
            "correct preprocess_cfg or vision_cfg in open_clip_config.json",
        )
    return stored


def _short(value: Any) -> str:
    return value if isinstance(value, str) else "/".join(f"{number:.4g}" for number in value)
