"""One model with random weights in which nothing is at rest, and the same in its own library.

Legend: B batch, N texts, C channels, H W pixels, D embedding dimension.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.testing.library import Library
from seaanchor.testing.rules import different_images


def loaded(name: str, side: int | None) -> LoadedModel:
    """`open_clip:NAME`, `timm:NAME` or `hf:FOLDER` with random weights."""
    source = name.removeprefix("open_clip:")
    model = load_model(source, None if name.startswith("hf:") else "none", side)
    enliven(model.module)
    calibrate(model.encoder)
    return model


@torch.no_grad()
def enliven(module: nn.Module) -> None:
    """Move what begins at zero or one, such as layer scales: an untrained residual block, or a
    position table of zeros, would hide faults."""
    rng = torch.Generator().manual_seed(0)
    noise = lambda tensor: torch.randn(tensor.shape, generator=rng)  # noqa: E731
    for parameter in module.parameters():
        if parameter.dim() == 1 and len(parameter) > 1:
            parameter += 0.1 * noise(parameter)
        elif parameter.dim() > 1 and float(parameter.std()) < 1e-3:
            parameter += 0.02 * noise(parameter)


@torch.no_grad()
def calibrate(encoder: Encoder) -> None:
    """Give batch normalisation the statistics of two pictures: with those of a random draw, signals die out."""
    norms = [child for child in encoder.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        encoder(torch.cat([different_images(encoder.image_size, seed) for seed in (5, 6)]))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def library_of(name: str, model: LoadedModel, side: int | None) -> Library:
    """The model's own library with the same weights."""
    return {"open_clip": _open_clip, "timm": _timm, "hf": _hugging_face}[model.family](name, model, side)


def _open_clip(name: str, model: LoadedModel, side: int | None) -> Library:
    import open_clip

    source, twin = name.removeprefix("open_clip:"), model.module
    if sum(parameter.numel() for parameter in twin.parameters()) < 200e6:  # or two of them take too much memory
        twin = open_clip.create_model(source, force_image_size=side, pretrained_text=False)
        twin.load_state_dict(model.module.state_dict())
        twin.eval()
    tokenizer: Any = open_clip.get_tokenizer(source)
    config = open_clip.get_model_preprocess_cfg(twin)
    transform = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**config), is_train=False)

    def encode_texts(texts: Sequence[str]) -> Tensor:
        return twin.encode_text(tokenizer(list(texts)), normalize=False)

    return Library(lambda pixels_BCHW: twin.encode_image(pixels_BCHW, normalize=False), encode_texts, transform)


def _timm(name: str, model: LoadedModel, side: int | None) -> Library:
    import timm

    source = name.removeprefix("timm:")
    twin: Any
    try:
        twin = timm.create_model(source, num_classes=0, **({"img_size": side} if side else {}))
    except TypeError:  # a convolutional tower takes any size and no argument
        twin = timm.create_model(source, num_classes=0)
    state: Any = model.encoder.tower.state_dict()
    missing, unexpected = twin.load_state_dict({k.removeprefix("model."): v for k, v in state.items()}, strict=False)
    if missing:
        raise ValueError(f"timm's model has weights that ours lacks: {missing[:3]}; ours has {unexpected[:3]}")
    twin.eval()
    config = timm.data.resolve_data_config({"input_size": (3, side, side)} if side else {}, model=twin)
    transform = timm.data.create_transform(**config, is_training=False)
    return Library(twin, None, lambda image: transform(image.convert("RGB")))


def _hugging_face(name: str, model: LoadedModel, side: int | None) -> Library:
    from tools.compatibility.hugging_face import library_of

    return library_of(name.removeprefix("hf:"), model)
