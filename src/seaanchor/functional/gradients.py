"""Gradients to the pixels, and models whose weights ask for none.

Legend: B batch, C channels, H W pixels.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seaanchor.types import AttackLoss


def input_grad(loss: AttackLoss, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per-sample loss (B,), its gradient to the pixels, and the output behind it: the one gradient primitive of every
    attack.

    Samples are independent, so the gradient of the sum is each sample's own. Weights collect nothing:
    `torch.autograd.grad` asks for the pixels alone, where `.backward()` would fill every parameter's `.grad`.
    """
    with torch.enable_grad():
        leaf_BCHW = pixels_BCHW.detach().requires_grad_()
        loss_B, output = loss(leaf_BCHW)
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
