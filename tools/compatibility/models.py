"""One model with random weights in which nothing is at rest, and the same in its own library.

Legend: B batch, N texts, C channels, H W pixels, D embedding dimension.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.testing.library import Library
from seaanchor.testing.rules import different_images

CALM = 2e-6  # rounding, as a share of what a model gives, that its checks allow for


@dataclass(frozen=True)
class Made:
    """What is loaded: a name for `load_model`, its weights and, of timm, the whole model that wrote them."""

    source: str
    pretrained: str | None
    whole: Any = None


def made(name: str, side: int | None, folder: Path) -> Made:
    """`hf:FOLDER` as it lies there, `open_clip:NAME` with random weights, and of `timm:NAME` a file with all its
    weights, its classifier among them."""
    if name.startswith("hf:"):
        return Made(name, None)
    if name.startswith("open_clip:"):
        return Made(name.removeprefix("open_clip:"), "none")
    from safetensors.torch import save_file

    whole = _timm_model(name, side)
    enliven(whole)
    config = whole.pretrained_cfg
    calibrate(whole, side or config["input_size"][-1])
    file = folder / "model.safetensors"
    save_file({key: value.contiguous().clone() for key, value in whole.state_dict().items()}, file)
    return Made(name, str(file), whole)


def loaded(this: Made, side: int | None) -> LoadedModel:
    """The model as `load_model` gives it; OpenCLIP's is then moved away from its beginning."""
    model = load_model(this.source, this.pretrained, side)
    if this.pretrained == "none":
        enliven(model.module)
        calibrate(model.encoder.tower, model.encoder.image_size)
    return model


@torch.no_grad()
def enliven(module: nn.Module) -> None:
    """Move what begins at zero or one, such as layer scales: an untrained residual block, or a position table of zeros,
    would hide faults."""
    rng = torch.Generator().manual_seed(0)
    noise = lambda tensor: torch.randn(tensor.shape, generator=rng)  # noqa: E731
    for parameter in module.parameters():
        if parameter.dim() == 1 and len(parameter) > 1:
            parameter += 0.1 * noise(parameter)
        elif parameter.dim() > 1 and float(parameter.std()) < 1e-3:
            parameter += 0.02 * noise(parameter)


@torch.no_grad()
def calibrate(module: nn.Module, side: int) -> None:
    """Give batch normalisation the statistics of pictures and noise: with those of a random draw, signals die out."""
    norms = [child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    try:
        noise = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
        module(_normalised(torch.cat([different_images(side, 5), noise])))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
            if norm.running_var is not None:  # a channel at rest would amplify rounding without bound
                norm.running_var.clamp_(min=0.1 * float(norm.running_var.mean()))
    damped = [norm.weight for norm in norms if norm.weight is not None]
    for _ in range(12):  # and so would a deep network whose layers all have steep slopes
        if _rounding(module, side) < CALM:
            return
        for weight in damped:
            weight *= 0.9


def _normalised(pixels_BCHW: Tensor) -> Tensor:
    """About as most models want them."""
    return (pixels_BCHW - 0.45) / 0.25


def _rounding(module: nn.Module, side: int) -> float:
    """How far fp32 is from fp64, as a share."""
    noise = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    pixels_BCHW = _normalised(torch.cat([different_images(side, 5), different_images(side, 6), noise]))
    exact = copy.deepcopy(module).double()(pixels_BCHW.double())
    return float(((module(pixels_BCHW) - exact).norm(dim=-1) / exact.norm(dim=-1)).max())


def library_of(this: Made, model: LoadedModel, side: int | None) -> Library:
    """The model's own library with the same weights."""
    if model.family == "open_clip":
        return _open_clip(this.source, model, side)
    if model.family == "timm":
        return _timm(this, side)
    from tools.compatibility.hugging_face import library_of

    return library_of(this.source.removeprefix("hf:"), model)


def _open_clip(source: str, model: LoadedModel, side: int | None) -> Library:
    import open_clip

    twin = model.module
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


def _timm_model(name: str, side: int | None, **settings: int) -> Any:
    import timm

    source = name.removeprefix("timm:")
    try:
        return timm.create_model(source, **settings, **({"img_size": side} if side else {})).eval()
    except TypeError:  # a convolutional tower takes any size and no argument
        return timm.create_model(source, **settings).eval()


def _timm(this: Made, side: int | None) -> Library:
    import timm

    twin = _timm_model(this.source, side, num_classes=0)
    missing, _ = twin.load_state_dict(this.whole.state_dict(), strict=False)
    if missing:
        raise ValueError(f"without its classifier the model has weights that it lacks with it: {missing[:3]}")
    config = timm.data.resolve_data_config({"input_size": (3, side, side)} if side else {}, model=twin)
    transform = timm.data.create_transform(**config, is_training=False)
    return Library(twin, None, lambda image: transform(image.convert("RGB")), classify=this.whole)
