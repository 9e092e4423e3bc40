"""Image towers out of models of transformers: normalised pixels (B, C, H, W) → the embedding (B, D) as the library's
own forward has it.

Legend: B batch, C channels, H W pixels, D embedding dimension, N patches, P side of a patch in pixels.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Projected(nn.Module):
    """The pooled output of a vision model through the projection."""

    def __init__(self, vision_model: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.vision_model, self.projection = vision_model, projection

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.projection(self.vision_model(pixel_values=pixels_BCHW).pooler_output)


class Pooled(nn.Module):
    """The pooled output of a vision model: what its own pooling makes of the tokens."""

    def __init__(self, vision_model: nn.Module) -> None:
        super().__init__()
        self.vision_model = vision_model

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.vision_model(pixel_values=pixels_BCHW).pooler_output


class ClassToken(nn.Module):
    """The class token after the last normalisation of a model whose pooler is a layer that most checkpoints lack."""

    def __init__(self, vision_model: nn.Module) -> None:
        super().__init__()
        self.vision_model = without(vision_model, "pooler")

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.vision_model(pixel_values=pixels_BCHW).last_hidden_state[:, 0]


class ClassifierInput(nn.Module):
    """What an image classifier's last linear layer reads."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        last = model.classifier
        self.model = without(model, "classifier", nn.Identity() if isinstance(last, nn.Linear) else last[:-1])

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.model(pixel_values=pixels_BCHW).logits


class Packed(nn.Module):
    """The pooled output of a vision model that takes patches: a square image is a full pack without padding."""

    def __init__(self, vision_model: nn.Module, patch_size: int) -> None:
        super().__init__()
        self.vision_model, self.patch_size = vision_model, patch_size

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        return self.vision_model(**packed_arguments(pixels_BCHW, self.patch_size)).pooler_output


def packed_arguments(pixels_BCHW: Tensor, patch_size: int) -> dict[str, Tensor]:
    """What such a model is called with for square images."""
    patches_BNK = pack(pixels_BCHW, patch_size)
    side = pixels_BCHW.shape[-1] // patch_size
    mask_BN = torch.ones(patches_BNK.shape[:2], dtype=torch.int32, device=pixels_BCHW.device)
    shapes_B2 = torch.full((len(pixels_BCHW), 2), side, device=pixels_BCHW.device)
    return {"pixel_values": patches_BNK, "pixel_attention_mask": mask_BN, "spatial_shapes": shapes_B2}


def pack(pixels_BCHW: Tensor, patch_size: int) -> Tensor:
    """Patches (B, N, P·P·C) in rows, the channels of a pixel side by side."""
    batch, channels, height, width = pixels_BCHW.shape
    rows, columns = height // patch_size, width // patch_size
    grid = pixels_BCHW.reshape(batch, channels, rows, patch_size, columns, patch_size)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)


def without(model: nn.Module, child: str, instead: nn.Module | None = None) -> nn.Module:
    """A view of a model, sharing all else, in which one child is replaced: its weights are no part of the tower."""
    view = copy.copy(model)
    view._modules = {**model._modules, child: instead}
    return view


def make_constant(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Turn weights into buffers of the same names: they stay in the state dict and are no parameters to train, which a
    gradient would have to reach.

    Args:
        model: changed in place.
        parts: of the names of these weights.
    """
    for name, parameter in list(model.named_parameters()):
        if any(part in name for part in parts):
            owner, _, key = name.rpartition(".")
            module = model.get_submodule(owner)
            del module._parameters[key]
            module.register_buffer(key, parameter.detach())
