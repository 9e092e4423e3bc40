"""Low-rank adapters on the image tower (Hu et al. 2022) through `peft` (extra `lora`); merged into the weights for the
export."""

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.errors import SeaAnchorError, note
from seaanchor.functional.gradients import attackable
from seaanchor.types import Head
from seaanchor.utils.probe import random_images


@dataclass(frozen=True)
class LoRA:
    """Adapter: W + (alpha/rank)·B·A on every linear, attention and convolution layer that peft knows and the tower
    calls; B starts at 0, so the policy starts at the reference.

    Args:
        rank: of the update.
        alpha: its scale.
    """

    rank: int = 8
    alpha: int = 16

    def trainable(self, encoder: nn.Module) -> Iterable[nn.Parameter]:
        """Insert the adapters, freeze the rest, and return their parameters.

        Raises:
            SeaAnchorError: peft is not installed, or the tower has no layer to adapt.
        """
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise SeaAnchorError(
                "peft is not installed", "the extra `lora`", "pip install 'seaanchor[lora]'"
            ) from error
        targets = lora_targets(encoder)
        if not targets:
            raise SeaAnchorError(
                "the image tower has no linear, attention or convolution layer",
                "one to put an adapter on",
                "use adapter full",
            )
        layers = {name: encoder.get_submodule(name) for name in targets}
        inject_adapter_in_model(LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=targets), encoder)
        unread = _unread(encoder)
        _take_out(encoder, unread)
        adapted = {name: layer for name, layer in layers.items() if name not in unread}
        if not adapted:
            raise SeaAnchorError(
                f"the image tower reads the weights of its {len(layers)} linear layers and calls none of them",
                "a layer to put an adapter on",
                "use adapter full",
            )
        note(_said(encoder, adapted, [name for name in layers if name in unread]))
        return [p for p in encoder.parameters() if p.requires_grad]

    def head(self, policy: nn.Module, head: Head | None) -> Head | None:
        """None: the text tower stays frozen."""
        return None

    def penalty(self, policy: nn.Module) -> Tensor | None:
        """None: the anchor alone holds the tower."""
        return None


def lora_targets(encoder: nn.Module) -> list[str]:
    """Full names of the layers that get an adapter. open_clip's attention is one fused layer: it is taken whole,
    because its output projection is used as a bare weight and an adapter put there would get no gradient. Attention
    over keys of another width (the pooling of CoCa) keeps its projections apart, which peft cannot adapt: it is left as
    it is, with all that lies inside."""
    attention = {name: m for name, m in encoder.named_modules() if isinstance(m, nn.MultiheadAttention)}
    fused, found = list(attention), [name for name, module in attention.items() if module._qkv_same_embed_dim]
    for name, module in encoder.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in fused)
        grouped = isinstance(module, nn.Conv2d) and module.groups > 1
        if isinstance(module, nn.Linear | nn.Conv2d) and not inside and not grouped and _linear_in_weight(module):
            found.append(name)
    return found


@torch.no_grad()
def _linear_in_weight(layer: nn.Linear | nn.Conv2d) -> bool:
    """Whether an update beside the layer is an update of its weight. Layers that standardise their weights (NF-ResNet,
    BiT) give the same output for twice the weight, and a merged update would answer otherwise than the trained one."""
    if type(layer) in (nn.Linear, nn.Conv2d):
        return True
    twin = copy.deepcopy(layer)
    shape = (1, twin.in_channels, *twin.kernel_size) if isinstance(twin, nn.Conv2d) else (1, twin.in_features)
    if twin.bias is not None:
        twin.bias.zero_()
    x = torch.linspace(-1, 1, math.prod(shape)).view(shape).to(twin.weight)
    once = twin(x)
    twin.weight.mul_(2)
    return bool(once.any()) and torch.allclose(twin(x), 2 * once, rtol=1e-2, atol=1e-3 * float(once.abs().max()))


def _unread(encoder: nn.Module) -> list[str]:
    """Adapters that no gradient reaches, seen on random images: the tower uses the weight of their layer and does not
    call the layer (attention of BEiT and EVA-02, attention pooling of CLIP's ResNets), so that an update beside it says
    nothing."""
    updates = {name: p for name, p in encoder.named_parameters() if ".lora_B." in name}
    with attackable(encoder), torch.enable_grad():
        for parameter in updates.values():
            parameter.requires_grad_(True)
        embedding_BD = encoder(random_images(encoder).requires_grad_())
        gradients = torch.autograd.grad(embedding_BD.sum(), list(updates.values()), allow_unused=True)
    return [
        name.partition(".lora_B.")[0] for name, gradient in zip(updates, gradients, strict=True) if gradient is None
    ]


def _said(encoder: nn.Module, adapted: Mapping[str, nn.Module], unread: Sequence[str]) -> str:
    """Which layers are adapted, and which with weights of the same kinds are not."""
    kinds = Counter(type(layer).__name__ for layer in adapted.values())
    inside = tuple(f"{name}." for name in (*adapted, *unread))
    left = [
        name
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
        and name not in unread
        and not name.startswith(inside)
    ]
    said = f"lora: adapts {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}; " + (
        f"leaves {len(left)} as they are ({_few(left)})" if left else "leaves none as it is"
    )
    without = f"; {len(unread)} get none, because the tower reads their weights and does not call them ({_few(unread)})"
    return said + (without if unread else "")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def has_updates(encoder: nn.Module) -> bool:
    """Whether the encoder carries low-rank updates."""
    return any("lora_" in name for name, _ in encoder.named_parameters())


def merge(encoder: nn.Module) -> nn.Module:
    """Fold the adapters into the weights and take them out again; the encoder is then of its original architecture."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(name, module) for name, module in encoder.named_modules() if isinstance(module, BaseTunerLayer)]
    for _, module in layers:
        if not module.merged:  # an attention layer merges the projection inside it too
            module.merge()
    _take_out(encoder, [name for name, _ in layers])
    for attention in [module for module in encoder.modules() if isinstance(module, nn.MultiheadAttention)]:
        if attention._qkv_same_embed_dim:
            _as_parameter(attention, "in_proj_weight")
        _as_parameter(attention.out_proj, "weight")
    return encoder


def _take_out(encoder: nn.Module, names: Sequence[str]) -> None:
    """Put the layers themselves in the place of their adapters."""
    for name in reversed(names):  # what lies inside another layer first
        parent, _, leaf = name.rpartition(".")
        layer: Any = encoder.get_submodule(name)
        setattr(encoder.get_submodule(parent) if parent else encoder, leaf, layer.get_base_layer())


def _as_parameter(module: nn.Module, name: str) -> None:
    """Merging leaves an attention layer's weights as plain tensors, which no state dict would hold."""
    value = getattr(module, name)
    if not isinstance(value, nn.Parameter):
        delattr(module, name)
        module.register_parameter(name, nn.Parameter(value.detach()))
