"""Weights of OpenCLIP models: by tag, from a file, from a folder, or an image tower's file over another's text side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.encoders.embedded import base_folder
from seaanchor.encoders.openclip_hf_text import text_settings
from seaanchor.encoders.openclip_tags import quick_gelu_of_file
from seaanchor.encoders.openclip_text import quiet, read_config
from seaanchor.encoders.pretrained import Pretrained, is_weights_file
from seaanchor.encoders.weight_files import find_weights
from seaanchor.encoders.weights import hub_error, load_strictly, read_weights, weights_error
from seaanchor.errors import SeaAnchorError, note

FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
SIZES = ("input_resolution", "context_length", "vocab_size")  # OpenAI's files hold them beside the weights
SCALES = ("logit_scale", "logit_bias")


def create(name: str, source: str, asked: Pretrained, image_size: int | None) -> Any:
    """A model of an OpenCLIP name or of the Hub, with the weights that were asked for.

    Raises:
        SeaAnchorError: weights that cannot be fetched, read or matched.
    """
    import open_clip

    config = {} if source.startswith("hf-hub:") else open_clip.get_model_config(source)
    later = "timm_model_name" in config.get("vision_cfg", {})  # resized when the weights are in
    size = None if later else image_size
    if is_weights_file(asked.base) and asked.base not in open_clip.list_pretrained_tags_by_model(source):
        model = _build(name, source, config, size, quick_gelu_of_file(source))
        _load_file(name, model, str(asked.base), image_size)
    elif asked.base == "none":
        model = _build(name, source, config, size)
    else:
        model = _fetch(name, source, asked.base, size)
    model = _with_image_tower(name, model, asked, image_size)
    return _resized(name, model, image_size) if later and image_size is not None else model


def create_from_folder(name: str, folder: Path, asked: Pretrained, image_size: int | None) -> Any:
    """Build from the folder's own config; a variant without a text tower borrows it from the model its config names.

    Raises:
        SeaAnchorError: files that are missing, broken, or do not match.
    """
    config = read_config(folder)
    file = find_weights(folder, FILES)
    state = read_weights(file).state
    if base := (config.get("seaanchor") or {}).get("text_tower_of"):
        towers = read_weights(find_weights(base_folder(folder, base), FILES)).state
        state = {k: v for k, v in towers.items() if not k.startswith("visual.")} | state
    later = "timm_model_name" in config["model_cfg"]["vision_cfg"]
    model = _build(name, f"local-dir:{folder}", config["model_cfg"], None if later else image_size)
    change = f"name what its text side is from: --model MODEL --pretrained BASE+{file}, or --model FOLDER with +{file}"
    _check_text_side(model, state, file, change)
    _load_state(name, model, state, str(file), image_size)
    model = _with_image_tower(name, model, asked, image_size)
    return _resized(name, model, image_size) if later and image_size is not None else model


def _resized(name: str, model: Any, image_size: int) -> Any:
    """A timm tower for another size of images, as open_clip does it: after its weights are in."""
    import open_clip
    from open_clip.model import set_model_preprocess_cfg

    try:
        with quiet():
            model.visual.set_input_size(image_size)
    except Exception as error:  # towers of one size
        raise SeaAnchorError(
            f"{name} at {image_size} pixels: {' '.join(str(error).split())[:200]}",
            "a size that the architecture takes",
            "leave --image-size out",
        ) from error
    set_model_preprocess_cfg(model, dict(open_clip.get_model_preprocess_cfg(model)) | {"size": image_size})
    return model


def _fetch(name: str, source: str, tag: str | None, image_size: int | None) -> Any:
    """The model with a tag's weights, those of the Hub, or random ones."""
    import open_clip

    quick_gelu = bool(tag and open_clip.get_pretrained_cfg(source, tag).get("quick_gelu"))
    try:
        with quiet():
            return open_clip.create_model(
                source,
                pretrained=tag,
                force_quick_gelu=quick_gelu,
                force_image_size=image_size,
                pretrained_text=False,
                require_pretrained=source.startswith("hf-hub:"),
            )
    except Exception as error:  # the Hub, the configuration and the weights each fail in their own way
        if "state_dict" in str(error):
            raise weights_error(name, tag or source, error) from error
        shown = f"{name} ({tag})" if tag else name
        raise hub_error(shown, error, "give --pretrained a weights file") from error


def _build(name: str, source: str, config: Mapping[str, Any], image_size: int | None, quick_gelu: bool = False) -> Any:
    """The architecture, with random weights; nothing is asked of the Hub."""
    import open_clip

    try:
        with quiet(), text_settings(name, config["text_cfg"]) as settings:
            return open_clip.create_model(
                source,
                load_weights=False,
                pretrained_text=False,
                force_quick_gelu=quick_gelu,
                force_image_size=image_size,
                **settings,
            )
    except SeaAnchorError:
        raise
    except Exception as error:  # settings that no tower can be built from
        found = f"{name} could not be built: {' '.join(str(error).split())[:300]}"
        change = "install the extra `hf` if transformers is missing, or correct the configuration"
        raise SeaAnchorError(found, "an architecture that open_clip can build", change) from error


def _load_file(name: str, model: Any, file: str, image_size: int | None) -> None:
    import open_clip

    state = _converted(name, model, dict(read_weights(file).state), file)
    tags = open_clip.list_pretrained_tags_by_model(name)
    base = "openai" if "openai" in tags else tags[0] if tags else "TEXT_SIDE_FILE"
    change = f"write --pretrained {base}+{file}: the file's image tower over the text side of {base}"
    _check_text_side(model, state, file, change)
    _load_state(name, model, state, file, image_size)


def _check_text_side(model: Any, state: Mapping[str, Tensor], file: str | Path, change: str) -> None:
    if _image_tower(model, state) is not None:
        found = f"{file} holds an image tower, and no text side"
        raise SeaAnchorError(found, "both towers, or where the text side comes from", change)


def _load_state(name: str, model: Any, state: dict[str, Tensor], file: str, image_size: int | None) -> None:
    """All weights, position embeddings resampled where they are for another size of images."""
    state = {key: value for key, value in state.items() if key not in SIZES}
    for key in SCALES:  # a number, or a vector of one
        own = getattr(model, key, None)
        if key in state and own is not None and state[key].numel() == own.numel() == 1:
            state[key] = state[key].reshape(own.shape)
    load_strictly(model, _resampled(name, model, state, file, image_size), name, file)


def _with_image_tower(name: str, model: Any, asked: Pretrained, image_size: int | None) -> Any:
    """The model with the image tower of a file, and that file's logit scale where it has one."""
    if asked.image_tower is None:
        return model
    file = asked.image_tower
    state = _converted(name, model, dict(read_weights(file).state), file)
    tower = _image_tower(model, state)
    if tower is None:  # both towers: the image tower alone was asked for
        tower = state = {key: value for key, value in state.items() if key.startswith("visual.")}
    tower = _resampled(name, model, tower, file, image_size)
    load_strictly(model.visual, {key.removeprefix("visual."): value for key, value in tower.items()}, name, file)
    with torch.no_grad():
        for key in SCALES:
            if key in state and getattr(model, key, None) is not None:
                getattr(model, key).copy_(state[key].reshape(getattr(model, key).shape))
    note(f"{name}: the image tower is that of {file}, the text side that of {asked.base or name}")
    return model


def _converted(name: str, model: Any, state: dict[str, Tensor], file: str) -> dict[str, Tensor]:
    """The keys of other projects as open_clip has them."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    try:
        state = convert_state_dict(model, state)
        if "token_embedding.weight" in state and not hasattr(model, "token_embedding"):
            state = convert_to_custom_text_state_dict(state)
    except Exception as error:  # the conversion indexes what it expects to find
        raise weights_error(name, file, error) from error
    return state


def _image_tower(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """An image tower's weights with `visual.` before their names; None where a text side lies beside them."""
    own, tower = set(model.state_dict()), set(model.visual.state_dict())
    rest = [key for key in state if key not in (*SIZES, *SCALES)]
    if rest and all(key.startswith("visual.") for key in rest):
        return {key: state[key] for key in rest}
    bare, whole = len(tower.intersection(rest)), len(own.intersection(rest))
    return {f"visual.{key}": state[key] for key in rest} if bare > whole else None


def _resampled(name: str, model: Any, state: dict[str, Tensor], file: str, image_size: int | None) -> dict[str, Tensor]:
    """The weights with position embeddings for the model's size of images; a note says so where no size was asked
    for."""
    from open_clip.model import resize_pos_embed

    key, state = "visual.positional_embedding", dict(state)
    before = state.get(key)
    try:
        with quiet():
            resize_pos_embed(state, model)
    except Exception as error:  # no square grid
        raise weights_error(name, file, error) from error
    if before is not None and state[key].shape != before.shape and image_size is None:
        sides = [round((len(positions) - 1) ** 0.5) for positions in (before, state[key])]
        note(
            f"{file}: position embeddings resampled from {sides[0]} x {sides[0]} to {sides[1]} x {sides[1]}, the size "
            f"of {name}; --image-size or another name keeps them"
        )
    return state
