"""Tokens of an image tower in place of its pooled embedding: the class token, the patch tokens, or their mean.

What a tower's own library calls its final features is read, one function for each family of towers. Legend: B batch,
C channels, H W pixels or cells, T patch tokens in raster order, D width of a token.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seaanchor.encoders.huggingface.towers import packed_arguments
from seaanchor.errors import SeaAnchorError

Tokens = Literal["class", "mean", "patches"]
CHOICES: tuple[Tokens, ...] = ("class", "mean", "patches")
TRANSFORMERS = {
    "CLIPVision": True,
    "SiglipVision": False,
    "Siglip2Vision": False,
    "Dinov2Model": True,
    "Dinov2WithRegistersModel": True,
    "DINOv3ViTModel": True,
    "ViTModel": True,
}
"""Beginnings of the class names of Hugging Face towers whose tokens are known, with whether there is a class token."""
RASTER = ("MlpMixer", "Twins", "Hiera")
"""timm towers without prefix tokens that give their cells as a list, row by row."""


@dataclass(frozen=True)
class Features:
    """What a tower gives before it pools, after its final norm.

    Attributes:
        patches_BTD: one token for each patch or cell, row by row, without class and register tokens.
        grid: rows and columns of the patches; None where that is not known.
        class_BD: the class token, None for towers without one.
    """

    patches_BTD: Tensor
    grid: tuple[int, int] | None
    class_BD: Tensor | None = None


class TokenTower(nn.Module):
    """A tower that gives tokens: `class` and `mean` (B, D), `patches` (B, T, D).

    Args:
        tower: of OpenCLIP, timm or Hugging Face; or any module that returns its patch tokens (B, T, D) itself.
        tokens: which.
        image_size: side of the images in pixels.

    Attributes:
        grid: rows and columns of the patches, None where that is not known.
        dim: D.
        unread: names of parameters that these tokens do not depend on, such as the last projection.

    Raises:
        SeaAnchorError: the tower has no such tokens, or it is not known where they are.
    """

    def __init__(self, tower: nn.Module, tokens: Tokens, image_size: int) -> None:
        super().__init__()
        if tokens not in CHOICES:
            raise SeaAnchorError(f"tokens {tokens!r}", f"one of {', '.join(CHOICES)}", "choose one of them")
        self.tower, self.tokens = tower, tokens
        self.grid, self.dim, self.unread = self._probe(image_size)

    def forward(self, normalised_BCHW: Tensor) -> Tensor:
        """Tokens of normalised pixels."""
        return self._chosen(read_features(self.tower, normalised_BCHW))

    def extra_repr(self) -> str:
        """Which tokens."""
        return f"tokens={self.tokens}"

    def _chosen(self, features: Features) -> Tensor:
        if self.tokens == "patches":
            return features.patches_BTD
        if self.tokens == "mean":
            return features.patches_BTD.mean(1)
        if features.class_BD is None:
            raise SeaAnchorError(
                f"{_name(self.tower)} has no class token",
                "tokens mean or patches, or none of them for its library's own embedding",
                "set --tokens mean or --tokens patches, or leave it out",
            )
        return features.class_BD

    def _probe(self, image_size: int) -> tuple[tuple[int, int] | None, int, tuple[str, ...]]:
        """Grid, width and the parameters that are not read, from one image of noise."""
        parameters = dict(self.tower.named_parameters())
        learn = {name: parameter.requires_grad for name, parameter in parameters.items()}
        training = [module for module in self.tower.modules() if module.training]
        first = next(iter(parameters.values()), torch.zeros(()))
        noise = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        try:
            self.tower.eval().requires_grad_(True)
            with torch.enable_grad():
                features = read_features(self.tower, noise.to(first))
                found = self._chosen(features)
                needed = list(parameters.values())
                gradients = torch.autograd.grad(found.sum(), needed, allow_unused=True) if needed else ()
        finally:
            for name, parameter in parameters.items():
                parameter.requires_grad_(learn[name])
            for module in training:
                module.training = True
        unread = tuple(name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None)
        return features.grid if self.tokens == "patches" else None, found.shape[-1], unread


def read_features(tower: nn.Module, normalised_BCHW: Tensor) -> Features:
    """The features of a tower before it pools.

    Raises:
        SeaAnchorError: it is not known where this tower has its tokens.
    """
    part = _library_part(tower)
    match _family(part):
        case "open_clip":
            return _open_clip(part, normalised_BCHW)
        case "timm":
            return _timm(part, normalised_BCHW)
        case "transformers":
            return _transformers(part, normalised_BCHW)
    found = part(normalised_BCHW)
    if not isinstance(found, Tensor) or found.dim() != 3:
        raise _unknown(tower)
    return Features(found, _square(found.shape[1]))


def _open_clip(tower: Any, normalised_BCHW: Tensor) -> Features:
    """OpenCLIP's own vision transformers, before pooling and projection, and its ResNets, before attention pooling."""
    if all(hasattr(tower, name) for name in ("stem", "layer4", "attnpool")):
        map_BCHW = tower.stem(normalised_BCHW)
        for layer in (tower.layer1, tower.layer2, tower.layer3, tower.layer4):
            map_BCHW = layer(map_BCHW)
        return _cells(map_BCHW)
    if not all(hasattr(tower, name) for name in ("_embeds", "transformer", "ln_post", "grid_size")):
        raise _unknown(tower)
    if tower.attn_pool is not None and tower.attn_pool_contrastive is None:  # CoCa norms what it has pooled
        raise _unknown(tower)
    tokens_BTD = tower.ln_post(tower.transformer(tower._embeds(normalised_BCHW)))
    return _without_prefix(tower, tokens_BTD, 1, tuple(tower.grid_size), has_class=True)


def _timm(tower: Any, normalised_BCHW: Tensor) -> Features:
    """`forward_features` of timm: tokens of a transformer, or the last map of a convolutional or windowed tower."""
    found = tower.forward_features(normalised_BCHW)
    if not isinstance(found, Tensor) or found.dim() not in (3, 4):
        raise _unknown(tower)
    if found.dim() == 4:
        return _cells(found.permute(0, 3, 1, 2) if getattr(tower, "output_fmt", "NCHW") == "NHWC" else found)
    if isinstance(getattr(tower, "norm", None), nn.Identity) and isinstance(getattr(tower, "fc_norm", None), nn.Module):
        found = tower.fc_norm(found)  # where the library norms after pooling, this is the tower's final norm
    prefix, has_class = getattr(tower, "num_prefix_tokens", None), getattr(tower, "cls_token", None) is not None
    if prefix is None:
        if not has_class and type(tower).__name__ not in RASTER:
            raise _unknown(tower)
        prefix = int(has_class)
    grid = getattr(getattr(tower, "patch_embed", None), "grid_size", None)
    count = found.shape[1] - prefix
    if grid is None or math.prod(grid) != count:
        grid = _square(count)
    return _without_prefix(tower, found, prefix, grid, has_class)


def _transformers(tower: Any, normalised_BCHW: Tensor) -> Features:
    """Hugging Face's vision transformers; CLIP's norms its class token alone, so that the others are normed here."""
    if type(tower).__name__.endswith("ForImageClassification"):
        tower = getattr(tower, "vision_model", tower.base_model)
    name = type(tower).__name__
    known = [has_class for beginning, has_class in TRANSFORMERS.items() if name.startswith(beginning)]
    if not known or not hasattr(tower.config, "patch_size"):
        raise _unknown(tower)
    if name.startswith("Siglip2Vision"):
        packed = packed_arguments(normalised_BCHW, tower.config.patch_size)
        tokens_BTD = tower(**packed).last_hidden_state
    else:
        tokens_BTD = tower(pixel_values=normalised_BCHW).last_hidden_state
    if name.startswith("CLIPVision"):
        tokens_BTD = getattr(tower, "vision_model", tower).post_layernorm(tokens_BTD)
    prefix = int(known[0]) + (getattr(tower.config, "num_register_tokens", None) or 0)
    rows, columns = (side // tower.config.patch_size for side in normalised_BCHW.shape[-2:])
    return _without_prefix(tower, tokens_BTD, prefix, (rows, columns), known[0])


def _without_prefix(
    tower: nn.Module, tokens_BTD: Tensor, prefix: int, grid: tuple[int, ...] | None, has_class: bool
) -> Features:
    """Class token and patches of a list of tokens whose first `prefix` are no patches."""
    patches_BTD = tokens_BTD[:, prefix:]
    if grid is None or math.prod(grid) != patches_BTD.shape[1]:
        raise _unknown(tower)
    rows, columns = grid
    return Features(patches_BTD, (rows, columns), tokens_BTD[:, 0] if has_class else None)


def _cells(map_BCHW: Tensor) -> Features:
    """The cells of a map as tokens."""
    rows, columns = map_BCHW.shape[-2:]
    return Features(map_BCHW.flatten(2).transpose(1, 2), (rows, columns))


def _square(count: int) -> tuple[int, int] | None:
    side = math.isqrt(count)
    return (side, side) if side * side == count else None


def _library_part(tower: nn.Module) -> nn.Module:
    """The library's own tower inside this package's wrappers and OpenCLIP's wrapper of timm."""
    kind = type(tower)
    if kind.__name__ == "TimmModel" and kind.__module__.startswith("open_clip."):
        return tower.trunk  # type: ignore[return-value] # a module
    if kind.__module__.startswith("seaanchor.") and _family(tower) is None:
        inner = [_library_part(child) for child in tower.children()]
        return next((child for child in inner if _family(child) is not None), tower)
    if kind.__name__.endswith("ForImageClassification") and _family(tower) == "transformers":
        return tower.base_model  # type: ignore[return-value] # a module
    return tower


def _family(tower: nn.Module) -> str | None:
    """The library that a module's class is from."""
    origins = {base.__module__.partition(".")[0] for base in type(tower).__mro__}
    return next((name for name in ("open_clip", "timm", "transformers") if name in origins), None)


def _name(tower: nn.Module) -> str:
    return type(_library_part(tower)).__name__


def _unknown(tower: nn.Module) -> SeaAnchorError:
    return SeaAnchorError(
        f"it is not known where {_name(tower)} has its tokens",
        "a vision transformer of OpenCLIP, timm or Hugging Face, a convolutional tower of timm, or a module that "
        "returns patch tokens (B, T, D)",
        "leave --tokens out, for its library's own embedding, or wrap it in a module that returns its tokens",
    )
