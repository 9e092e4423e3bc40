"""timm image towers, such as DINOv2: no text side, raw pooled features as embeddings."""

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.pretrained import is_weights_file
from seaanchor.encoders.timm_classifier import TakenOff, take_classifier
from seaanchor.encoders.timm_input import from_timm, to_timm
from seaanchor.encoders.weight_files import find_weights
from seaanchor.encoders.weights import hub_error, load_strictly, read_weights, weights_error
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import parse_json

AS_PRETRAINED = {"fbnetc_100": {"bn_eps": 1e-3}}  # what timm sets only where it fetches the weights itself

FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")


def load_timm(name: str, pretrained: str | None, image_size: int | None) -> LoadedModel:
    """Load `timm:NAME` (with a tag, a weights file, the default weights, or `none`) or `timm:local-dir:PATH`; errors as
    in `load_model`."""
    import timm

    source = name.removeprefix("timm:")
    file = pretrained if is_weights_file(pretrained) else None
    of_weights = file is None  # whether timm's configuration is
    if source.startswith("local-dir:"):
        file = _weights_in(name, Path(source.removeprefix("local-dir:")))
    elif not source.startswith("hf-hub:"):
        source = _check_name(source, None if file else pretrained)
    fetch = file is None and pretrained != "none"
    try:
        drawn = file is None and not fetch
        model, size_args = _create(source, fetch, image_size, {"num_classes": 0} if drawn else {})
    except Exception as error:  # timm, the Hub and the weights each fail in their own way
        if "state_dict" in str(error):
            raise weights_error(name, pretrained or source, error) from error
        raise hub_error(name, error, "give --pretrained a weights file, or 'none' for random weights") from error
    model.eval().requires_grad_(False)
    if not hasattr(model, "reset_classifier"):
        raise SeaAnchorError(
            f"{name} is a {type(model).__name__}, the tower of a larger model, which gives no embedding of an image",
            "a model that pools its features",
            "choose another, or wrap it in a module that pools, as seaanchor.Encoder(module, ...)",
        )
    if file is not None:
        _load_weights(model, name, file)
    side = image_size or timm.data.resolve_data_config(model=model, use_test_size=False)["input_size"][-1]
    taken = TakenOff(why="its weights are random") if drawn else take_classifier(model, side, of_weights)
    config = timm.data.resolve_data_config(model=model, use_test_size=False)
    settings = from_timm(name, config, image_size)
    side = settings.preprocessing.size
    seen = (settings.mean, settings.std, settings.preprocessing)
    encoder = Encoder(model, side, getattr(model, "head_hidden_size", model.num_features), *seen).eval()
    _check_output(name, encoder)
    export = {
        "architecture": model.pretrained_cfg.get("architecture", source.split(".")[0]),
        "model_args": size_args,
        "pretrained_cfg": {
            **to_timm(name, settings, config["crop_pct"]),
            "num_classes": 0,
            "custom_load": False,
            "fixed_input_size": bool(model.pretrained_cfg.get("fixed_input_size")),
        },
    }
    export |= {"classifier": {"layer": taken.layer, "shape": taken.shape}}
    return LoadedModel(name, "timm", encoder, model, 1.0, None, export, classifier=taken.named, no_classifier=taken.why)


@torch.no_grad()
def _check_output(name: str, encoder: Encoder) -> None:
    """One embedding of the width that is announced for one image, or an error that names the model."""
    side, expected = encoder.image_size, f"an embedding (1, {encoder.dim}) of one image"
    try:
        found: Any = encoder(torch.zeros(1, 3, side, side))
    except Exception as error:  # towers with two inputs, or of another size, each fail in their own way
        said = f"{name} fails on an image of {side} x {side} pixels: {type(error).__name__}: {str(error)[:200]}"
        raise SeaAnchorError(said, expected, "set --image-size to what the model takes") from error
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != (1, encoder.dim):
        raise SeaAnchorError(f"{name} gives {shape}", expected, "choose a model that pools its features")


def _create(source: str, fetch: bool, image_size: int | None, asked: dict[str, int]) -> tuple[Any, dict[str, int]]:
    """The model, with a classifier where its weights have one unless something else is asked for, and the size
    arguments it was built with; convolutional models take any size and no argument."""
    import timm

    wanted = {"img_size": image_size} if image_size else {}
    own = {} if fetch else AS_PRETRAINED.get(_architecture(source), {})
    try:
        return timm.create_model(source, pretrained=fetch, **asked, **own, **wanted), wanted
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return timm.create_model(source, pretrained=fetch, **asked, **own), {}


def _architecture(source: str) -> str:
    """Of a name with or without a tag, or of a folder."""
    if not source.startswith("local-dir:"):
        return source.partition(".")[0]
    try:
        config = parse_json((Path(source.removeprefix("local-dir:")) / "config.json").read_text())
        return str(config.get("architecture", "")).partition(".")[0]
    except (OSError, ValueError, AttributeError):  # timm says what is wrong with it
        return ""


def on_hub(name: str) -> bool:
    """Whether timm fetches the weights of a name from the Hub, or not at all, and not from another address."""
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return config is None or bool(config.hf_hub_id) or not config.url


def _weights_in(name: str, folder: Path) -> str:
    """The weights file of a folder; read here and not by timm, which takes integers for weights and says nothing of
    averaged ones."""
    if not (folder / "config.json").is_file():
        raise SeaAnchorError(f"{folder} has no config.json", "a folder that timm wrote", f"correct the path in {name}")
    return str(find_weights(folder, FILES))


def _check_name(source: str, tag: str | None) -> str:
    """The timm name with its tag.

    Raises:
        SeaAnchorError: timm has no such model, or it has no such tag.
    """
    import timm

    architecture, _, own_tag = source.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.5)
        raise SeaAnchorError(
            f"timm has no model {architecture!r}", "a timm name", f"nearest names: {', '.join(near) or 'none'}"
        )
    tag = tag if tag not in (None, "none") else own_tag
    if not tag:
        return source
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        near = get_close_matches(tag, tags, n=3, cutoff=0.3) or tags[:6]
        raise SeaAnchorError(
            f"{architecture} has no weights {tag!r}, and there is no such file",
            f"one of its tags ({', '.join(near) or 'it has none'}), a weights file, or 'none' for random weights",
            "correct the tag",
        )
    return f"{architecture}.{tag}"


def _load_weights(model: Any, name: str, file: str) -> None:
    """Weights as timm or as the model's authors saved them: timm's own filter renames them, and resamples position
    embeddings. A classifier in the file is loaded, of any number of classes, if it is one layer as the model's."""
    state: dict[str, Any] = read_weights(file).state
    rename = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        state = rename(state, model) if rename else state
    except Exception as error:  # the filters index what they expect to find
        raise weights_error(name, file, error) from error
    layers = model.pretrained_cfg.get("classifier") or ()
    layers = [layers] if isinstance(layers, str) else list(layers)
    unused = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    weight = state.get(f"{layers[0]}.weight") if len(layers) == 1 else None
    own = model.state_dict().get(f"{layers[0]}.weight") if weight is not None else None
    if weight is not None and own is not None and own.shape[1:] == weight.shape[1:]:
        if len(own) != len(weight):
            model.reset_classifier(len(weight))
        unused = set()
    elif all(key in state and state[key].shape == value.shape for key, value in model.state_dict().items()):
        unused = set()  # all of the model, with a classifier of several layers, as LeViT's
    else:
        before = set(model.state_dict())
        model.reset_classifier(0)
        unused |= before - set(model.state_dict())
    load_strictly(model, {k: v for k, v in state.items() if k not in unused}, name, file)
