"""Activations that are computed again instead of kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from seaanchor.errors import SeaAnchorError


@contextmanager
def activation_checkpointing(module: nn.Module) -> Iterator[nn.Module]:
    """The module saving only what lies between its blocks; the backward computes the rest again. One more forward for a
    fraction of the memory.

    Whoever calls it goes through forward and backward inside: an attack has its own passes, outside, and saves
    everything.

    Raises:
        SeaAnchorError: the tower's library cannot do it.
    """
    switches = [
        layer
        for layer in module.modules()
        if hasattr(layer, "set_grad_checkpointing") or hasattr(layer, "gradient_checkpointing_enable")
    ]
    try:
        for layer in switches:
            _recompute(layer, True)
        if not any(
            getattr(layer, name, False)
            for layer in module.modules()
            for name in ("grad_checkpointing", "gradient_checkpointing")
        ):
            raise SeaAnchorError(
                "the image tower cannot recompute activations",
                "a transformer, or a timm tower",
                "leave --checkpoint-activations out",
            )
        yield module
    finally:
        for layer in switches:
            _recompute(layer, False)


def _recompute(layer: Any, enable: bool) -> None:
    if hasattr(layer, "set_grad_checkpointing"):  # open_clip and timm
        layer.set_grad_checkpointing(enable)
        return
    kind = "activation" if hasattr(layer, "activation_checkpointing_enable") else "gradient"  # transformers' old name
    if enable:
        options = {f"{kind}_checkpointing_kwargs": {"use_reentrant": False}}
        getattr(layer, f"{kind}_checkpointing_enable")(**options)
    else:
        getattr(layer, f"{kind}_checkpointing_disable")()
