"""Attention laid out for a device, a number type and a length of the sequence.

Legend: B batch, T tokens, E width of the tower, H heads, D width of a head.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

LONGEST_PLAIN = 512  # tokens; beyond it the T × T matrices no longer fit a processor's caches


def plain_attention(device: torch.device, dtype: torch.dtype, tokens: int) -> bool:
    """Whether attention is faster as plain matrix products than fused: on a processor, in bf16, for short sequences.

    A gradient through one attention layer of width 192 and 65 tokens, on one thread of a Zen 5 with AVX512-BF16: 6.6 ms
    plain, 24 ms fused; of width 768 and 197 tokens 27 and 48 ms. In fp32 the two are even, and the fused one keeps
    less.
    """
    return device.type == "cpu" and dtype == torch.bfloat16 and tokens <= LONGEST_PLAIN


class WrittenOut(TorchFunctionMode):
    """Inside, `scaled_dot_product_attention` is a softmax between two products, whichever library calls it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and len(args) == 3 and _is_plain(*args, **kwargs):
            query_BHTD, key_BHTD, value_BHTD = args
            return written_out(query_BHTD, key_BHTD, value_BHTD, kwargs.get("attn_mask"), kwargs.get("scale"))
        return func(*args, **kwargs)


def _is_plain(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> bool:
    """Whether nothing but a bias and a scale is asked for, of a kind for which it is faster."""
    other = dropout_p or is_causal or enable_gqa or (attn_mask is not None and attn_mask.dtype == torch.bool)
    return not other and plain_attention(query_BHTD.device, query_BHTD.dtype, key_BHTD.shape[-2])


def written_out(
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention as the library's plain way has it, without its search for rows that are masked altogether."""
    scale = query_BHTD.shape[-1] ** -0.5 if scale is None else scale
    scores_BHTT = (query_BHTD * scale) @ key_BHTD.transpose(-2, -1)
    if attn_mask is not None:
        scores_BHTT = scores_BHTT + attn_mask.to(scores_BHTT.dtype)
    return torch.softmax(scores_BHTT, -1) @ value_BHTD


def attention(device: torch.device, dtype: torch.dtype, tokens: int) -> AbstractContextManager[object]:
    """The context in which `scaled_dot_product_attention` takes the faster of its ways; where that is torch's own
    choice, nothing. A processor that imitates bf16 does not come here: steps and attacks run in fp32 there."""
    return WrittenOut() if plain_attention(device, dtype, tokens) else nullcontext()


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
        query_BHTD, key_BHTD, value_BHTD = self._heads(query, key)
        mixed_BHTD = F.scaled_dot_product_attention(query_BHTD, key_BHTD, value_BHTD)
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
