"""The choice of kernels: what a layer runs on while a tower is used, by device, number type and shape."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from seaanchor.encoders.kernels.activation import FusedQuickGELU, is_quick_gelu
from seaanchor.encoders.kernels.class_token import class_token_layers
from seaanchor.encoders.kernels.compiled import CompiledForward
from seaanchor.encoders.kernels.convolution_layers import fast_convolutions
from seaanchor.encoders.kernels.patch_embedding import PatchConvolution, cuts_patches
from seaanchor.encoders.kernels.self_attention import SelfAttention, attention


@contextmanager
def fast_kernels(
    module: nn.Module, dtype: torch.dtype, tokens: int, compiled: CompiledForward | None = None
) -> Iterator[nn.Module]:
    """The module with the kernels that suit its device, the number type it computes in, and its sequences; as it was on
    leaving.

    A layer changes its class and nothing else: parameters, hooks and names stay, for wrappers and optimizers hold them.

    Args:
        module: any tower; its parameters say which device.
        dtype: of activations, such as bf16 under autocast.
        tokens: of a sequence, 0 where there is none.
        compiled: what calls of the module go through; convolutions are torch's own then, which it knows.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    before = [(layer, type(layer)) for layer in module.modules()]
    try:
        for layer, kind in class_token_layers(module):
            layer.__class__ = kind
        for layer, _ in before:
            if (faster := faster_class(layer, device)) is not None:
                layer.__class__ = faster
        around = fast_convolutions(module) if compiled is None else compiled.inside(module)
        with attention(device, dtype, tokens), around:
            yield module
    finally:
        for layer, kind in before:
            if type(layer) is not kind:
                layer.__class__ = kind


def faster_class(layer: nn.Module, device: torch.device) -> type[nn.Module] | None:
    """What a layer becomes on a device; None where it stays.

    Source of each choice: the measurement in the class's own words.
    """
    if type(layer) is nn.MultiheadAttention:
        return SelfAttention
    if is_quick_gelu(layer):
        return FusedQuickGELU
    if device.type == "cpu" and cuts_patches(layer):
        return PatchConvolution
    return None


def compiling_pays(module: nn.Module, device: torch.device) -> bool:
    """Whether a compiled tower is no slower than these kernels: not on a processor, where it has more than one
    convolution.

    A gradient to the pixels of `tf_efficientnet_lite0`, 8 images of 128 pixels in fp32 on one thread of a Xeon with
    AVX-512: 140 ms here, 414 compiled with torch's own convolutions, 174 in the 29 pieces that these kernels leave.
    """
    return device.type != "cpu" or sum(isinstance(layer, nn.Conv2d) for layer in module.modules()) < 2


def num_tokens(module: nn.Module) -> int:
    """Tokens of a vision transformer that takes images of `module.image_size`, by the stride of its one convolution; 0
    of another tower."""
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    size = getattr(module, "image_size", None)
    return (int(size) // convolutions[0].stride[0]) ** 2 if size and len(convolutions) == 1 else 0
