"""Convolutions of a tower on fast kernels, each together with the batch normalisation that follows it.

In eval mode a batch normalisation is a linear map of each channel. Folded into the convolution's weights it costs
nothing, forward or backward; weights that are trained get their gradients through the folding. Towers train with the
statistics of their pre-training, so that this holds for every pass.

Legend: B batch, C channels (O of the output), H W pixels, I J of the kernel.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from seaanchor.encoders.kernels.convolution import Geometry, convolve
from seaanchor.functional.gradients import attackable

COPYING = (nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Mish)
"""Activations which, in place, keep a copy of what they overwrite: out of place they save a pass over memory."""
FUSED = {nn.ReLU: "relu", nn.ReLU6: "relu6"}
DEAREST = 2  # passes over weights and over maps that cost the same
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_pairs: "weakref.WeakKeyDictionary[nn.Module, tuple[list[str], dict[str, str]]]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Role:
    """What a layer was, and what it is meanwhile.

    Attributes:
        original: its class.
        norm: of a convolution, the batch normalisation that it folds in.
        activation: of both, what the convolution computes of its output.
        kept: of a frozen pair, folded weights by the state that they were computed from.
        done: of a pair, whether the convolution of this moment had the normalisation in it: the two share one list.
    """

    original: type[nn.Module]
    norm: nn.Module | None = None
    activation: str | None = None
    kept: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)
    done: list[bool] = field(default_factory=lambda: [False])


class Convolution(nn.Conv2d):
    """The same layer, computed by `convolve`."""

    role: Role

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The convolution (B, O, H, W); of a folded pair what its normalisation gives."""
        if x_BCHW.dim() != 4:
            return self.role.original.forward(self, x_BCHW)
        geometry, norm = _geometry(self, x_BCHW), self.role.norm
        folds = norm is not None and not norm.training and _pays(self, norm, x_BCHW)
        self.role.done[0] = folds
        if not folds:
            return convolve(x_BCHW, self.weight, self.bias, geometry)
        return convolve(x_BCHW, *_folded(self, norm), geometry, self.role.activation)


class Passed(nn.BatchNorm2d):
    """A batch normalisation that the convolution before it has done."""

    role: Role

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """What comes after the normalisation itself."""
        if not self.role.done[0]:
            return self.role.original.forward(self, x_BCHW)
        if self.role.activation or self.role.original is nn.BatchNorm2d:
            return x_BCHW
        return self.act(self.drop(x_BCHW))  # type: ignore[operator]


@contextmanager
def fast_convolutions(module: nn.Module) -> Iterator[None]:
    """The module with its convolutions on fast kernels; as it was on leaving.

    Names, parameters and hooks stay. Layers of other classes than `nn.Conv2d` and timm's `Conv2dSame` are left alone,
    as are pairs that somebody watches with a hook.
    """
    layers = dict(module.named_modules())
    pairs = pairs_of(module)
    before: list[tuple[nn.Module, type[nn.Module]]] = []
    copying: list[Any] = [layer for layer in layers.values() if type(layer) in COPYING and layer.inplace]
    try:
        for name, layer in layers.items():
            if _convolution(layer) and not _sharded(layer):
                norm = layers[pairs[name]] if name in pairs else None
                norm = None if norm is None or _watched(layer) or _watched(norm) or _sharded(norm) else norm
                activation, done = None if norm is None else _activation(norm), [False]
                for part, as_what in ((layer, Convolution), (norm, Passed)):
                    if part is not None:
                        before.append((part, type(part)))
                        role = Role(type(part), norm if part is layer else None, activation, done=done)
                        part.__class__, part.__dict__["role"] = as_what, role
        for layer in copying:
            layer.inplace = False
        yield
    finally:
        for part, original in before:
            part.__class__ = original
            part.__dict__.pop("role", None)
        for layer in copying:
            layer.inplace = True


def pairs_of(module: nn.Module) -> dict[str, str]:
    """Names of convolutions, each with the batch normalisation that takes its output and that nothing else does.

    Seen on one forward of noise, as how modules are registered need not be how they are called, and kept for as long
    as the module has these layers. A module without `image_size`, which nobody knows the input of, has no pairs.
    """
    names = [name for name, layer in module.named_modules() if _convolution(layer) or _normalisation(layer)]
    size = getattr(module, "image_size", None)
    if not isinstance(size, int) or not any(_normalisation(layer) for layer in module.modules()):
        return {}
    if any(_sharded(layer) for layer in module.modules()):
        return {}
    known = _pairs.get(module)
    if known is None or known[0] != names:
        known = _pairs[module] = names, _seen(module, size)
    return known[1]


def _seen(module: nn.Module, size: int) -> dict[str, str]:
    made: dict[int, tuple[str, Tensor, Any]] = {}  # the tensors stay alive, so that no two have the same id
    pairs: list[tuple[str, str, Any]] = []
    handles = []

    def note(name: str) -> Callable[..., None]:
        return lambda layer, inputs, output: made.update({id(output): (name, output, output.grad_fn)})

    def match(name: str) -> Callable[..., None]:
        def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            conv, _, node = made.get(id(inputs[0]), ("", None, None))
            if node is not None and node is inputs[0].grad_fn:
                pairs.append((conv, name, node))

        return look

    for name, layer in module.named_modules():
        if _convolution(layer):
            handles.append(layer.register_forward_hook(note(name)))
        elif _normalisation(layer):
            handles.append(layer.register_forward_pre_hook(match(name)))
    try:
        # whoever counts what a step runs does not see this forward
        with _disable_current_modes(), torch.inference_mode(False), torch.enable_grad(), attackable(module):
            rng = torch.Generator().manual_seed(0)
            pixels_BCHW = torch.rand(2, 3, size, size, generator=rng).to(module.get_buffer("mean"))
            readers = _readers(module(pixels_BCHW.requires_grad_()).grad_fn)
    finally:
        for handle in handles:
            handle.remove()
    calls = Counter(name for pair in pairs for name in pair[:2])  # a layer used twice is left alone
    return {conv: norm for conv, norm, node in pairs if calls[conv] == calls[norm] == readers[node] == 1}


def _readers(root: Any) -> Counter[Any]:
    """How many nodes of a graph take what each node gives."""
    readers: Counter[Any] = Counter()
    waiting = [] if root is None else [root]
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in readers:
                waiting.append(node)
            readers[node] += 1
    return readers


def _frozen(conv: Convolution, norm: Any) -> bool:
    parts = conv.weight, conv.bias, norm.weight, norm.bias
    return not (torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in parts))


def _pays(conv: Convolution, norm: Any, x_BCHW: Tensor) -> bool:
    """Whether the passes over weights that folding takes, forward and backward, are fewer than those over maps that it
    saves. Folded weights of frozen layers serve many forwards. Those of a bf16 copy would be rounded a second time."""
    if conv.weight.dtype not in (torch.float32, torch.float64):
        return False
    places = x_BCHW.shape[0] * x_BCHW.shape[2] * x_BCHW.shape[3] // (conv.stride[0] * conv.stride[1])
    return _frozen(conv, norm) or places >= DEAREST * conv.weight[0].numel()


def _folded(conv: Convolution, norm: Any) -> tuple[Tensor, Tensor]:
    """Weights and bias of the convolution with the normalisation in them; those of frozen layers are computed once."""
    parts = [conv.weight, conv.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var]
    there = [part for part in parts if part is not None]
    state = tuple((part.untyped_storage()._cdata, part._version) for part in there) if _frozen(conv, norm) else None
    if state in conv.role.kept:
        return conv.role.kept[state]
    scale_O = torch.rsqrt(norm.running_var + norm.eps)
    scale_O = scale_O if norm.weight is None else scale_O * norm.weight
    shift_O = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    bias_O = shift_O * scale_O if norm.bias is None else torch.addcmul(norm.bias, shift_O, scale_O)
    dtype = conv.weight.dtype
    folded = (conv.weight * scale_O.view(-1, 1, 1, 1)).to(dtype), bias_O.to(dtype)
    if state is not None:
        conv.role.kept.clear()
        conv.role.kept[state] = folded
    return folded


def _geometry(layer: Convolution, x_BCHW: Tensor) -> Geometry:
    """Of one call: a layer of timm with TensorFlow's padding adds what its output size asks for, the odd one behind."""
    padding: Any = layer.padding
    (down, right), dilation, stride = padding, layer.dilation, layer.stride
    border = (right, right, down, down)
    if layer.role.original is not nn.Conv2d:
        border = (0, 0, 0, 0)
        for i in (1, 0):
            size, step = x_BCHW.shape[2 + i], stride[i]
            missing = (-(-size // step) - 1) * step + (layer.kernel_size[i] - 1) * dilation[i] + 1 - size
            before = max(missing, 0) // 2
            border = (*border[2:], before, max(missing, 0) - before)
    return Geometry(stride, border, dilation, layer.groups)  # type: ignore[arg-type]


def _timm(name: str) -> type | None:
    """A class of timm, if a tower of it can be there at all."""
    return getattr(sys.modules.get("timm.layers"), name, None)


def _convolution(layer: nn.Module) -> bool:
    known = type(layer) in (nn.Conv2d, _timm("Conv2dSame"))
    return known and layer.padding_mode == "zeros" and not isinstance(layer.padding, str) and _own(layer)


def _normalisation(layer: nn.Module) -> bool:
    known = type(layer) in (nn.BatchNorm2d, _timm("BatchNormAct2d"))
    return known and layer.running_mean is not None and layer.running_var is not None and _own(layer)


def _own(layer: nn.Module) -> bool:
    """Whether its class says what it computes."""
    return "forward" not in vars(layer)


def _activation(norm: nn.Module) -> str | None:
    """The activation that a normalisation of timm ends with, where a convolution can compute it."""
    if type(norm) is nn.BatchNorm2d or type(norm.drop) is not nn.Identity or _watched(norm.act, norm.drop):
        return None
    return FUSED.get(type(norm.act))  # type: ignore[arg-type]


def _watched(*layers: Any) -> bool:
    return any(getattr(layer, hooks, None) for layer in layers for hooks in HOOKS)


def _sharded(layer: nn.Module) -> bool:
    """Whether its weights lie in several processes."""
    return any(hasattr(parameter, "to_local") for parameter in layer.parameters(recurse=False))
