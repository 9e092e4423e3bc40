"""Which kernels a step runs on, by device, number type and length of the sequence; the weights and what they compute
stay the same.

Legend: B batch, T tokens, E width of the tower, H heads, D width of a head.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from seaanchor.errors import SeaAnchorError

LONGEST_PLAIN = 512  # tokens; beyond it the T × T matrices no longer fit a processor's caches
FUSED = ("cpu", "cuda", "mps", "xpu")  # devices with a fused Adam


@cache
def computes_in_bf16(device: str) -> bool:
    """Whether a kind of device has arithmetic in bf16. One without imitates it: LORE on the embedded ResNet ran at 6
    images a second and core on a processor with AVX2 alone, and at 33 in fp32."""
    if device == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def plain_attention(device: torch.device, dtype: torch.dtype, tokens: int) -> bool:
    """Whether attention is faster as plain matrix products than fused: on a processor, in bf16, for short sequences.

    A gradient through one attention layer of width 192 and 65 tokens, on one thread of a Zen 5 with AVX512-BF16: 6.6 ms
    plain, 24 ms fused; of width 768 and 197 tokens 27 and 48 ms. In fp32 the two are even, and the fused one keeps
    less.
    """
    return device.type == "cpu" and dtype == torch.bfloat16 and tokens <= LONGEST_PLAIN


def attention(device: torch.device, dtype: torch.dtype, tokens: int) -> AbstractContextManager[object]:
    """The context in which `scaled_dot_product_attention` takes the faster of its ways; where that is torch's own
    choice, nothing."""
    return sdpa_kernel(SDPBackend.MATH) if plain_attention(device, dtype, tokens) else nullcontext()


class SelfAttention(nn.MultiheadAttention):
    """The same layer, self-attention alone laid out for speed.

    torch's own puts the tokens before the batch, and with frozen weights the projection of such a tensor becomes B
    products with a copy of the
    weights each: with frozen weights in bf16 a layer of width 768 took 24 times as long, in fp32 1.6 times.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the library's; what is not plain self-attention of (B, T, E) without weights asked for goes there."""
        asked = [value for value in (*args, *kwargs.values()) if value is not None and value is not False]
        plain = (
            query is key is value
            and query.dim() == 3
            and self.batch_first
            and self._qkv_same_embed_dim
            and self.in_proj_bias is not None
        )
        whole = self.bias_k is None and not self.add_zero_attn and not (self.training and self.dropout)
        if asked or args or kwargs.get("need_weights") is not False or not plain or not whole:
            return super().forward(query, key, value, *args, **kwargs)
        mixed = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        heads = mixed.view(*query.shape[:2], 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed_BHTD = _attend(*heads.unbind())
        return F.linear(mixed_BHTD.transpose(1, 2).reshape(query.shape), self.out_proj.weight, self.out_proj.bias), None


def _attend(query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor) -> Tensor:
    tokens, width = query_BHTD.shape[-2:]
    if not plain_attention(query_BHTD.device, query_BHTD.dtype, tokens):
        return F.scaled_dot_product_attention(query_BHTD, key_BHTD, value_BHTD)
    # as the library's plain way, without its search for rows that are masked altogether: there is no mask
    return torch.softmax((query_BHTD * width**-0.5) @ key_BHTD.transpose(-2, -1), -1) @ value_BHTD


@contextmanager
def fast_kernels(module: nn.Module, dtype: torch.dtype, tokens: int) -> Iterator[nn.Module]:
    """The module with the kernels that suit its device, the number type it computes in, and its sequences; as it was on
    leaving.

    Args:
        module: any tower; its parameters say which device.
        dtype: of activations, such as bf16 under autocast.
        tokens: of a sequence, 0 where there is none.
    """
    layers = [layer for layer in module.modules() if type(layer) is nn.MultiheadAttention]
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    try:
        for layer in layers:
            layer.__class__ = (
                SelfAttention  # no new layer: parameters, hooks and names stay, for wrappers and optimizers hold them
            )
        with attention(device, dtype, tokens):
            yield module
    finally:
        for layer in layers:
            layer.__class__ = nn.MultiheadAttention


def num_tokens(module: nn.Module) -> int:
    """Tokens of a vision transformer that takes images of `module.image_size`, by the stride of its one convolution; 0
    of another tower."""
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    size = getattr(module, "image_size", None)
    return (int(size) // convolutions[0].stride[0]) ** 2 if size and len(convolutions) == 1 else 0


def adam_options(device: torch.device) -> dict[str, Any]:
    """What makes torch's AdamW one pass over memory instead of a dozen, where it can."""
    return {"fused": True} if device.type in FUSED else {}


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
