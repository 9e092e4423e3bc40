"""`hf:NAME_OR_PATH`: a model of transformers as an encoder, with the text side it has."""

from typing import Any

import torch
from torch import nn

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.fingerprint import text_side
from seaanchor.encoders.huggingface.families import Family, family_of
from seaanchor.encoders.huggingface.files import local_folder, read_config, read_state
from seaanchor.encoders.huggingface.processors import read_pixels
from seaanchor.encoders.huggingface.texts import TOKENIZER_FILES, load_tokenizer, text_encoder, text_limit
from seaanchor.encoders.huggingface.towers import make_constant
from seaanchor.encoders.huggingface.weights import load_weights
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Head, NamedHead


def load_hf(name: str, image_size: int | None = None) -> LoadedModel:
    """Load `hf:NAME_OR_PATH`; errors as in `load_model`."""
    try:
        import transformers  # noqa: F401 # it loads its parts when they are asked for
    except ImportError as error:
        raise SeaAnchorError(
            "transformers is not installed", "the extra `hf`", "pip install 'seaanchor[hf]'"
        ) from error
    folder = local_folder(name)
    config = read_config(name, folder)
    architecture, family = family_of(name, config)
    model = load_weights(name, folder, architecture, read_state(name, folder)).eval().requires_grad_(False)
    own = own_size(name, model, family)
    if image_size is not None:
        check_size(name, model, own, image_size)
    pixels = read_pixels(name, folder, architecture, own, image_size)
    check_size(name, model, own, pixels.preprocessing.size)
    make_constant(model, family.unread)
    tower, how = family.tower(model), pixels.preprocessing
    with torch.no_grad():
        dim = tower(torch.zeros(1, 3, how.size, how.size)).shape[1]
    encoder = Encoder(tower, how.size, dim, pixels.mean, pixels.std, how).eval()
    files = pixels.files | {file: (folder / file).read_bytes() for file in TOKENIZER_FILES if (folder / file).is_file()}
    export = {"files": files}
    if family.texts is None:
        classifier, why = own_classifier(model, family)
        return LoadedModel(name, "hf", encoder, model, 1.0, None, export, classifier=classifier, no_classifier=why)
    padded = family.texts == "padded"
    tokenizer = load_tokenizer(name, folder, model, padded)
    return LoadedModel(
        name,
        "hf",
        encoder,
        model,
        model.logit_scale.exp().item(),
        text_encoder(model, tokenizer, padded),
        export | {"tokenizer": tokenizer},
        text_limit(model, tokenizer),
        lambda: text_side(model, tower, tokenizer, model.config.text_config.to_dict()),
        no_classifier=own_classifier(model, family)[1],
    )


def own_size(name: str, model: Any, family: Family) -> int | None:
    """The only side in pixels that a model takes; None for one that takes others too.

    Raises:
        SeaAnchorError: it takes other than three channels, or no squares.
    """
    vision = getattr(model.config, "vision_config", model.config)
    channels, size = getattr(vision, "num_channels", 3), getattr(vision, "image_size", None)
    if channels != 3:
        raise SeaAnchorError(f"{name} takes images of {channels} channels", "3: red, green, blue", "use another model")
    if family.any_size:
        return None
    sides = [side for side in (size if isinstance(size, list | tuple) else [size]) if isinstance(side, int)]
    if len(set(sides)) != 1:
        raise SeaAnchorError(f"{name} takes images of {size} pixels", "a square input", "use another model")
    return sides[0]


def check_size(name: str, model: Any, own: int | None, image_size: int) -> None:
    """Fail on a side that the model does not take: transformers resamples no positions unless each call asks for it.

    Raises:
        SeaAnchorError: another side than its only one, or patches that do not fill the image.
    """
    if own is not None and image_size != own:
        raise SeaAnchorError(f"image size {image_size} for {name}", f"{own}, its own", "leave --image-size out")
    patch = getattr(getattr(model.config, "vision_config", model.config), "patch_size", None)
    if isinstance(patch, int) and image_size % patch:
        nearest = max(1, round(image_size / patch)) * patch
        raise SeaAnchorError(
            f"image size {image_size} for {name}", f"a multiple of its patches' {patch}", f"take {nearest}"
        )


def own_classifier(model: Any, family: Family) -> tuple[NamedHead | None, str]:
    """The last linear layer of an image classifier; or None, and why."""
    config = model.config
    if not family.classifies:
        return None, f"its class is {type(model).__name__}, without a classifier"
    problem = getattr(config, "problem_type", None)
    if problem not in (None, "single_label_classification"):
        return None, f"problem_type is {problem}, which gives no classes of which one is right"
    last = model.classifier[-1] if isinstance(model.classifier, nn.Sequential) else model.classifier
    if not isinstance(last, nn.Linear):
        return None, "num_labels is 0"
    bias_C = None if last.bias is None else last.bias.detach()
    names = tuple(str(config.id2label[i]) for i in range(last.out_features))
    unnamed = names == tuple(f"LABEL_{i}" for i in range(len(names)))
    head = Head(last.weight.detach(), 1.0, bias_C, unit=False, kind="classifier")
    return NamedHead(head, None if unnamed else names), ""
