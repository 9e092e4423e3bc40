"""Operations of what runs, a multiplication and an addition being two: torch's formulas, and our own where those are
wrong or missing.

torch 2.14 and 2.15 leave `groups` out of the gradient to a convolution's weights, so that a depthwise layer counts as
many times as it has channels. Ours hold whether a later torch has that right or not. Fused attention counts as the
plain products that it stands for: what its backward computes again belongs to the kernel and not to the mathematics,
and a count that had it would depend on the device.

Legend: B batch, H heads, T tokens, D width of a head.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


def _products(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    """Of one pass of a convolution: 2 · outputs · k² · C_in · C_out / groups; of a transposed one, every input takes
    the place of an output.

    The weights, (C_out, C_in / groups, k...) or transposed (C_in, C_out / groups, k...), know the groups.
    """
    places = math.prod((x if transposed else out).shape[2:])
    return 2 * len(x) * places * weight.numel()


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *_: Any,
    out_val: Tensor,
) -> int:
    return _products(x, weight, out_val, transposed)


def _convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    output_mask: Sequence[bool],
    out_val: Any = None,
) -> int:
    """Each of the two gradients takes the products of the forward; that of the bias has none."""
    return (output_mask[0] + output_mask[1]) * _products(x, weight, grad, transposed)


def _convolution_and_activation(x: Tensor, weight: Tensor, *_: Any, out_val: Tensor) -> int:
    """oneDNN's convolution with an activation in it, which is not counted here as nowhere else."""
    return _products(x, weight, out_val, transposed=False)


def _attention(query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor, *_: Any, **__: Any) -> int:
    """Scores and their product with the values; heads of keys that several queries share count for each of them."""
    pairs = math.prod(query_BHTD.shape[:-1]) * key_BHTD.shape[-2]
    return 2 * pairs * (query_BHTD.shape[-1] + value_BHTD.shape[-1])


def _attention_backward(grad: Tensor, *inputs: Any, **_: Any) -> int:
    """Both products have two inputs, and each gradient takes the products once more."""
    return 2 * _attention(*inputs)


def _matrix_vector(matrix: Tensor, vector: Tensor, **_: Any) -> int:
    return 2 * matrix.numel()


def _plus_matrix_vector(bias: Tensor, matrix: Tensor, vector: Tensor, **_: Any) -> int:
    return 2 * matrix.numel()


_FUSED = (
    "flash_attention",
    "flash_attention_for_cpu",
    "efficient_attention",
    "cudnn_attention",
    "fused_attention_overrideable",  # of devices outside of torch
)

_ONEDNN = ("_convolution_pointwise",)  # not of every build

FORMULAS: dict[Any, Callable[..., int]] = (
    flop_registry
    | {
        aten.convolution: _convolution,
        aten._convolution: _convolution,
        aten.convolution_backward: _convolution_backward,
        aten.mv: _matrix_vector,
        aten.dot: _matrix_vector,
        aten.addmv: _plus_matrix_vector,
    }
    | {getattr(aten, f"_scaled_dot_product_{kind}"): _attention for kind in _FUSED}
    | {getattr(aten, f"_scaled_dot_product_{kind}_backward"): _attention_backward for kind in _FUSED}
    | {
        getattr(torch.ops.mkldnn, name): _convolution_and_activation
        for name in _ONEDNN
        if hasattr(torch.ops.mkldnn, name)
    }
)
"""Operator → its formula, of the operator's arguments and its result (`out_val`)."""
