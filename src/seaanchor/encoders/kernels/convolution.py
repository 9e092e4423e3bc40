"""One convolution, each of its three passes by the kernel that is fastest on the device; values as torch's own.

Legend: B batch, C channels (O of the output), H W pixels, I J of the kernel.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

aten = torch.ops.aten

SMALL_MAP = 64  # places up to which a product takes the gradient to the input faster than oneDNN's own kernel
SMALL_MAP_WEIGHTS = 256  # the same for the gradient to the weights
WIDE_KERNEL = 5  # of depthwise layers whose gradient to the weights oneDNN takes slowly on small maps
ACTIVATIONS = {"relu": ("relu", []), "relu6": ("hardtanh", [0.0, 6.0])}  # as oneDNN names them


@dataclass(frozen=True)
class Geometry:
    """Where a convolution's kernel lies: steps, borders of zeros (left, right, top, bottom), spacing, groups."""

    stride: tuple[int, int]
    border: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def padding(self) -> tuple[int, int] | None:
        """The border as torch takes it; None where its sides differ, and the input is padded beforehand."""
        left, right, top, bottom = self.border
        return (top, left) if left == right and top == bottom else None

    def pointwise(self, weight: Tensor) -> bool:
        """Whether it is one linear map at every place."""
        plain = self.groups == 1 and self.stride == (1, 1) and not any(self.border)
        return plain and weight.shape[2:] == (1, 1)

    def depthwise(self, weight: Tensor) -> bool:
        """Whether each channel is convolved by itself."""
        return 1 < self.groups == len(weight) and weight.shape[1] == 1


def convolve(
    x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, activation: str | None = None
) -> Tensor:
    """The convolution, and `relu` or `relu6` of it, (B, O, H, W).

    On other devices than a processor it is torch's own. On a processor double backward raises, and autocast casts the
    inputs as it does for torch's own.
    """
    device = x_BCHW.device.type
    if device != "cpu":
        return _activated(_plain(x_BCHW, weight, bias, geometry), activation)
    if torch.is_autocast_enabled(device) and x_BCHW.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        x_BCHW, weight = x_BCHW.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    return _Convolution.apply(x_BCHW, weight, bias, geometry, activation)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, activation: str | None
    ) -> Tensor:
        x_BCHW = x_BCHW if geometry.padding is not None else _bordered(x_BCHW, geometry.border)
        out_BOHW = _forward(x_BCHW, weight, bias, geometry, activation)
        ctx.geometry, ctx.activation, ctx.shape, ctx.layout = geometry, activation, x_BCHW.shape, _layout(x_BCHW)
        seen = x_BCHW if ctx.needs_input_grad[1] else None  # frozen weights need no input, only its shape
        ctx.save_for_backward(seen, weight, out_BOHW if activation else None)
        return out_BOHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BOHW: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x_BCHW, weight, out_BOHW = ctx.saved_tensors
        asks_x, asks_weight, asks_bias = ctx.needs_input_grad[:3]
        if ctx.activation == "relu":
            grad_BOHW = aten.threshold_backward(grad_BOHW, out_BOHW, 0)
        elif ctx.activation == "relu6":
            grad_BOHW = aten.hardtanh_backward(grad_BOHW, out_BOHW, 0, 6)
        if x_BCHW is None:
            x_BCHW = torch.empty(ctx.shape, dtype=weight.dtype, device=weight.device, memory_format=ctx.layout)
        grad_x, grad_weight = _gradients(grad_BOHW, x_BCHW, weight, ctx.geometry, (asks_x, asks_weight))
        if grad_x is not None and ctx.geometry.padding is None:
            left, right, top, bottom = ctx.geometry.border
            grad_x = grad_x[:, :, top : grad_x.shape[2] - bottom, left : grad_x.shape[3] - right]
        return grad_x, grad_weight, grad_BOHW.sum((0, 2, 3)) if asks_bias else None, None, None


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, activation: str | None) -> Tensor:
    if activation and _fuses(x):
        name, numbers = ACTIVATIONS[activation]
        shape = geometry.padding or (0, 0), geometry.stride, geometry.dilation, geometry.groups
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *shape, name, numbers, "")
    padding = geometry.padding or (0, 0)
    out = F.conv2d(x, weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups)
    return _activated(out, activation)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    x = x if geometry.padding is not None else F.pad(x, geometry.border)
    return F.conv2d(x, weight, bias, geometry.stride, geometry.padding or (0, 0), geometry.dilation, geometry.groups)


def _activated(out: Tensor, activation: str | None) -> Tensor:
    """The activation in place."""
    if activation is None:
        return out
    return out.relu_() if activation == "relu" else F.hardtanh_(out, 0.0, 6.0)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, asked: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """To the input and to the weights; what oneDNN is to compute of both, in one call."""
    to_x = to_weight = None
    if asked[0] and _as_rows(x, weight, geometry, SMALL_MAP):
        to_x = _images(_rows(grad) @ weight.flatten(1), x)
    if asked[1]:
        to_weight = _to_weight(grad, x, weight, geometry)
    left = asked[0] and to_x is None, asked[1] and to_weight is None
    if any(left):
        found = _library(grad, x, weight, geometry, left)
        to_x, to_weight = found[0] if left[0] else to_x, found[1] if left[1] else to_weight
    return to_x, to_weight


def _to_weight(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor | None:
    """Where there is a faster way than oneDNN's, else None."""
    if _as_rows(x, weight, geometry, SMALL_MAP_WEIGHTS):
        return (_rows(grad).t() @ _rows(x)).view_as(weight)
    if _small_and_wide(grad, x, weight, geometry):
        return _as_forward(grad, x, geometry)
    if geometry.depthwise(weight) and weight.device.type == "cpu" and weight.dtype == torch.bfloat16:
        # on a processor with AMX the gradients to the weights of an EfficientNet-Lite took 40 ms an image in bf16, 30
        # in fp32
        return _library(grad.float(), x.float(), weight.float(), geometry, (False, True))[1].to(weight.dtype)
    return None


def _library(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, asked: tuple[bool, bool]) -> Any:
    shape = geometry.stride, geometry.padding or (0, 0), geometry.dilation, False, (0, 0), geometry.groups
    return aten.convolution_backward(grad, x, weight, None, *shape, (*asked, False))


def _small_and_wide(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether the gradient to the weights is faster as a forward convolution."""
    steps = geometry.stride == geometry.dilation == (1, 1) and geometry.padding is not None
    places = grad.shape[2] * grad.shape[3]
    small = x.device.type == "cpu" and places <= SMALL_MAP and min(weight.shape[2:]) >= WIDE_KERNEL
    return small and steps and geometry.depthwise(weight)


def _as_forward(grad_BCHW: Tensor, x_BCHW: Tensor, geometry: Geometry) -> Tensor:
    """The gradient to a depthwise layer's weights, (C, 1, I, J): each image's channel is convolved with the gradient
    that came back to it, and images are added up.

    For 5 × 5 on maps of 4 × 4 with 1,152 channels that is 7 times faster than oneDNN's gradient (16 images on a Zen 3:
    4 against 29 ms), on maps of 8 × 8 1.4 times.
    """
    count, channels, height, width = grad_BCHW.shape
    x = x_BCHW.permute(2, 3, 0, 1).reshape(1, *x_BCHW.shape[2:], count * channels).permute(0, 3, 1, 2)
    kernels = grad_BCHW.permute(2, 3, 0, 1).reshape(height, width, count * channels).permute(2, 0, 1)[:, None]
    out = F.conv2d(x, kernels, None, 1, geometry.padding or (0, 0), 1, count * channels)
    return out.view(count, channels, *out.shape[2:]).sum(0)[:, None]


def _as_rows(x: Tensor, weight: Tensor, geometry: Geometry, limit: int) -> bool:
    """Whether a linear map at every place is faster as one matrix product: on a processor, on small maps."""
    small = x.device.type == "cpu" and x.shape[2] * x.shape[3] <= limit
    return small and geometry.pointwise(weight) and _layout(x) is torch.channels_last


def _rows(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.permute(0, 2, 3, 1).reshape(-1, x_BCHW.shape[1])


def _images(rows: Tensor, like_BCHW: Tensor) -> Tensor:
    count, _, height, width = like_BCHW.shape
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)


def _fuses(x: Tensor) -> bool:
    """Whether oneDNN computes the activation with the convolution, which saves a pass over memory."""
    usable = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[attr-defined]
    return (
        bool(usable)
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and x.device.type == "cpu"
        and x.dtype == torch.float32
    )


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _bordered(x: Tensor, border: tuple[int, int, int, int]) -> Tensor:
    """The input with zeros around it, which are all that is written twice."""
    left, right, top, bottom = border
    count, channels, height, width = x.shape
    shape = count, channels, height + top + bottom, width + left + right
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
    out[:, :, :top].zero_()
    out[:, :, height + top :].zero_()
    out[:, :, :, :left].zero_()
    out[:, :, :, width + left :].zero_()
    out[:, :, top : top + height, left : left + width] = x
    return out
