"""Exports of models of transformers: in their own class, with tokenizer and processor as they came.

Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.huggingface.families import FAMILIES
from seaanchor.encoders.huggingface.weights import quiet
from seaanchor.export.reloaded import Reloaded, Target, weights_of
from seaanchor.utils.checkpoint import write_atomic


def write_hf(model: LoadedModel, target: Target) -> None:
    """Configuration and weights by `save_pretrained`, and the files of tokenizer and processor."""
    module: Any = model.module
    with quiet():
        module.save_pretrained(target.folder, state_dict=weights_of(module, target.half))
    for file, content in model.export_config["files"].items():
        write_atomic(target.folder / file, content)


def reload_hf(model: LoadedModel, folder: Path) -> Reloaded:
    """The export by transformers alone; pixels in [0, 1], since its processor normalises.

    Raises:
        ValueError: weights of the model are not in the folder.
    """
    import transformers

    with quiet():
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        (architecture,) = config.architectures
        theirs, info = getattr(transformers, architecture).from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
        processor = transformers.AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    missing = [key for key in info["missing_keys"] if not key.startswith("pooler.")]
    if missing:
        raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
    theirs.eval()

    def inputs(pixels_BCHW: Tensor) -> dict[str, Tensor]:
        images = [255 * pixels_CHW for pixels_CHW in pixels_BCHW]
        return processor(images=images, do_resize=False, do_center_crop=False, return_tensors="pt")

    family = FAMILIES[architecture]
    return Reloaded(
        lambda pixels_BCHW: _embedding(theirs, architecture, inputs(pixels_BCHW)),
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        _text_encoder(theirs, folder, family.texts == "padded") if family.texts else None,
        (lambda pixels_BCHW: theirs(**inputs(pixels_BCHW)).logits) if family.classifies else None,
        _see(processor),
        named=model.classifier,
    )


def _see(processor: Any) -> Callable[[Any], Tensor] | None:
    """A picture → normalised pixels; None for the processors that loading says it does not follow to the bit."""
    if type(processor).__name__.startswith(("DINOv3", "Siglip2")):
        return None
    return lambda picture: torch.as_tensor(processor(picture, return_tensors="pt")["pixel_values"])[0]


def _embedding(model: Any, architecture: str, inputs: dict[str, Tensor]) -> Tensor:
    if FAMILIES[architecture].texts:
        return _plain(model.get_image_features(**inputs))
    if FAMILIES[architecture].classifies:
        last = model.classifier[-1] if isinstance(model.classifier, torch.nn.Sequential) else model.classifier
        read: list[Tensor] = []
        hook = last.register_forward_pre_hook(lambda layer, arguments: read.append(arguments[0]))
        model(**inputs)
        hook.remove()
        return read[0]
    output = model(**inputs)
    if architecture == "ViTModel":
        return output.last_hidden_state[:, 0]
    return output.image_embeds if "image_embeds" in output else output.pooler_output


def _plain(features: Any) -> Tensor:
    return getattr(features, "pooler_output", features)  # transformers 5 wraps the embedding


def _text_encoder(model: Any, folder: Path, padded: bool) -> Callable[[Sequence[str]], Tensor]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    longest = model.config.text_config.max_position_embeddings

    def encode_texts(texts: Sequence[str]) -> Tensor:
        padding = "max_length" if padded else True
        tokens = tokenizer(list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        return _plain(model.get_text_features(**tokens))

    return encode_texts
