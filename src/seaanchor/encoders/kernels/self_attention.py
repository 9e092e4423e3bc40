"""Attention laid out for a device, a number type and a length of the sequence.

Legend: B batch, T tokens, E width of the tower, H heads, D width of a head.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

LONGEST_PLAIN = 512  # tokens; beyond it the T × T matrices no longer fit a processor's caches


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
    """The same layer, laid out for speed where keys and values are one: self-attention, or fewer queries.

    torch's own puts the tokens before the batch, and with frozen weights the projection of such a tensor becomes B
    products with a copy of the weights each: with frozen weights in bf16 a layer of width 768 took 24 times as long, in
    fp32 1.6 times.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As the library's; what is not attention of (B, T, E) without weights asked for goes there."""
        asked = [value for value in (*args, *kwargs.values()) if value is not None and value is not False]
        plain = (
            key is value
            and query.dim() == 3
            and self.batch_first
            and self._qkv_same_embed_dim
            and self.in_proj_bias is not None
        )
        whole = self.bias_k is None and not self.add_zero_attn and not (self.training and self.dropout)
        if asked or args or kwargs.get("need_weights") is not False or not plain or not whole:
            return super().forward(query, key, value, *args, **kwargs)
        mixed_BHTD = _attend(*self._heads(query, key))
        return F.linear(mixed_BHTD.transpose(1, 2).reshape(query.shape), self.out_proj.weight, self.out_proj.bias), None

    def _heads(self, query_BTE: Tensor, key_BTE: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values (B, H, T, D)."""
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query_BTE is key_BTE:
            return self._split(F.linear(query_BTE, weight, bias), 3)
        (of_query, of_rest), (query_bias, rest_bias) = (
            part.split([self.embed_dim, 2 * self.embed_dim]) for part in (weight, bias)
        )
        query_BHTD = self._split(F.linear(query_BTE, of_query, query_bias), 1)
        return *query_BHTD, *self._split(F.linear(key_BTE, of_rest, rest_bias), 2)

    def _split(self, mixed: Tensor, parts: int) -> tuple[Tensor, ...]:
        return mixed.view(*mixed.shape[:2], parts, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind()


def _attend(query_BHTD: Tensor, key_BHTD: Tensor, value_BHTD: Tensor) -> Tensor:
    tokens, width = query_BHTD.shape[-2:]
    if not plain_attention(query_BHTD.device, query_BHTD.dtype, tokens):
        return F.scaled_dot_product_attention(query_BHTD, key_BHTD, value_BHTD)
    # as the library's plain way, without its search for rows that are masked altogether: there is no mask
    return torch.softmax((query_BHTD * width**-0.5) @ key_BHTD.transpose(-2, -1), -1) @ value_BHTD
