"""How a tower's weights lie in memory; values, names and shapes are the same in any layout."""

import torch
from torch import nn

BLOCK = 16  # channels that oneDNN's 1 × 1 convolutions take at once with AVX-512, 8 with AVX2


def layout_of(tower: nn.Module) -> torch.memory_format | None:
    """The layout that suits a tower; None where it does not matter.

    Convolutional towers lie channels-last, which is faster on every device (forward and backward of a ResNet-10-t at
    64 px on two CPU cores: 1.27 times in fp32, 1.34 times in bf16). Those with a layer that `overruns` stay contiguous.
    """
    convolutions = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    if any(overruns(layer) for layer in convolutions):
        return torch.contiguous_format
    # more to convolve than the patch embedding of a transformer
    return torch.channels_last if len(convolutions) > 1 else None


def overruns(layer: nn.Conv2d) -> bool:
    """Whether the gradient to the layer's weights, channels-last and on a CPU, writes beyond its memory and ends the
    process or spoils numbers (oneDNN 3.12 and earlier, issue 6035): strided 1 × 1 convolutions of fewer channels than a
    block. RepVGG, MobileOne, FastViT and MobileCLIP have one on the pixels."""
    strided = any(step > 1 for step in layer.stride)
    return strided and layer.kernel_size == (1, 1) and layer.groups == 1 and layer.in_channels < BLOCK
