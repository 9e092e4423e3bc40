"""Gradients to the pixels, and models whose weights ask for none.

Legend: B batch, C channels, H W pixels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.errors import SeaAnchorError
from seaanchor.types import AttackLoss


def input_grad(loss: AttackLoss, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per-sample loss (B,), its gradient to the pixels, and the output behind it: the one gradient primitive of every
    attack.

    Samples are independent, so the gradient of the sum is each sample's own. Weights collect nothing:
    `torch.autograd.grad` asks for the pixels alone, where `.backward()` would fill every parameter's `.grad`.

    Raises:
        SeaAnchorError: no gradient leads from the loss to the pixels.
    """
    with torch.enable_grad():
        leaf_BCHW = pixels_BCHW.detach().requires_grad_()
        loss_B, output = loss(leaf_BCHW)
        if not loss_B.requires_grad:
            raise SeaAnchorError(
                "the attack's loss does not depend on the pixels by any gradient",
                "a model and a loss that can be differentiated",
                "take out what cuts the gradient, such as detach or no_grad, or attack by queries (square)",
            )
        (grad_BCHW,) = torch.autograd.grad(loss_B.sum(), leaf_BCHW)
    return loss_B.detach(), grad_BCHW, output.detach()


@contextmanager
def frozen(module: nn.Module) -> Iterator[nn.Module]:
    """The module with no parameter asking for gradients, so that a forward saves nothing for the weights; restored on
    leaving."""
    asking = [p for p in module.parameters() if p.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        yield module
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def linked(output: Tensor, input_BCHW: Tensor) -> Tensor:
    """The output (B, ...) itself; where no gradient leads back from it to the input, as from a constant, one that is 0
    does: an attack then finds nothing, and a check can say so, where torch would raise an error.

    >>> pixels = torch.rand(2, 3, 4, 4, requires_grad=True)
    >>> linked(torch.ones(2, 5), pixels).sum().backward()
    >>> pixels.grad.abs().max().item()
    0.0
    """
    if output.requires_grad or not input_BCHW.requires_grad or not torch.is_grad_enabled():
        return output
    return output + 0 * input_BCHW.flatten(1).sum(1).view(-1, *[1] * (output.dim() - 1))


@contextmanager
def reaching(*modules: nn.Module) -> Iterator[None]:
    """Inside, the modules' outputs are linked to their inputs, as by `linked`."""

    def link(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        return linked(output, inputs[0]) if isinstance(output, Tensor) and inputs else output

    hooks = [module.register_forward_hook(link) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def attackable(model: nn.Module | Callable[..., Any]) -> Iterator[None]:
    """The model as attacks see it: a module in eval mode and frozen; each layer's mode and each weight's
    `requires_grad` are restored on leaving. Another callable is taken as it is."""
    if not isinstance(model, nn.Module):
        yield
        return
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with frozen(model):
            yield
    finally:
        for module, training in modes:
            module.training = training


def pixels_alone(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The same function, through which `.backward()` reaches the pixels and nothing else: weights that ask for
    gradients get none.

    >>> weight, pixels = torch.ones(2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    >>> pixels_alone(lambda x: x * weight)(pixels).sum().backward()
    >>> pixels.grad.tolist(), weight.grad
    ([[1.0, 1.0]], None)
    """
    return lambda pixels_BCHW: _PixelsAlone.apply(pixels_BCHW, function)


class _PixelsAlone(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels_BCHW: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.set_grad_enabled(pixels_BCHW.requires_grad):
            ctx.leaf = pixels_BCHW.detach().requires_grad_(pixels_BCHW.requires_grad)
            ctx.output = function(ctx.leaf)
        return ctx.output.detach()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad_BCHW,) = torch.autograd.grad(ctx.output, ctx.leaf, grad_outputs[0], retain_graph=True)
        return grad_BCHW, None
