"""Text towers: truncated forward, and texts longer than they read.

Legend: N texts, L tokens, D embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.utils.log import warn_once
from seaanchor.utils.stages import tick

LOT = {"cpu": 2048}  # tokens; on a CPU more of them leave its caches (2048 against 8192: 1.4 times faster)
LOT_ELSEWHERE = 32_768


@dataclass(frozen=True)
class TextLimit:
    """How many tokens a text tower reads, how many a text has before its tokenizer cuts it, start and end token
    included, and which tokens are left of texts then."""

    tokens: int
    count: Callable[[str], int]
    read: Callable[[Sequence[str]], list[list[int]]]


def overlong(texts: Sequence[str], limit: TextLimit) -> list[int]:
    """Numbers of the texts a tokenizer cuts."""
    # a token covers a byte at least, so that short texts, nearly all of them, need no counting; up to 3 tokens are
    # added
    return [
        i for i, text in enumerate(texts) if len(text.encode()) + 3 > limit.tokens and limit.count(text) > limit.tokens
    ]


def warn_overlong(cut: int, total: int, first: str, limit: TextLimit) -> None:
    """Warn how many texts are cut, and the first of them: what the model never reads cannot distinguish two classes
    apart."""
    shown = first if len(first) <= 200 else f"{first[:197]}..."
    warn_once(  # a policy and its reference read the same texts, and so does every evaluation during training
        f"{cut} of {total} texts are longer than the {limit.tokens} tokens the model reads; "
        f"their ends are cut. First: {shown!r}"
    )


def truncate(tokens_NL: Tensor) -> Tensor:
    """Cut what follows the last end-of-text token of the batch. That token has the largest number of the vocabulary;
    padding cannot be recognised by its 0, which is also the exclamation mark's number."""
    used = int(tokens_NL.argmax(-1).max()) + 1
    return tokens_NL[:, :used]


def encode_text(model: nn.Module, tokens_NL: Tensor) -> Tensor:
    """Raw text embeddings (N, D) of an open_clip model, texts of one length together and each lot computed only up to
    its longest.

    Causal masking makes the cut exact: no token sees the ones after it. Models whose text tower is not causal, or is
    not open_clip's own transformer, are run at full length.
    """
    tower: Any = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    mask = getattr(tower, "attn_mask", None)
    if (
        not hasattr(tower, "token_embedding")
        or pool != "argmax"
        or mask is None
        or getattr(tower, "cls_emb", None) is not None
    ):
        full_N = torch.full_like(tokens_NL[:, 0], tokens_NL.shape[1])
        # nn.Module types every attribute as Tensor
        return in_lots(full_N, lambda lot: model.encode_text(tokens_NL[lot], normalize=False))  # type: ignore[operator]
    return in_lots(tokens_NL.argmax(-1) + 1, lambda lot: _encode_causal(tower, truncate(tokens_NL[lot]), mask))


def _encode_causal(tower: Any, tokens_NL: Tensor, mask_LL: Tensor) -> Tensor:
    length = tokens_NL.shape[1]
    hidden_NLD = tower.token_embedding(tokens_NL) + tower.positional_embedding[:length]
    hidden_NLD = tower.ln_final(tower.transformer(hidden_NLD, attn_mask=mask_LL[:length, :length]))
    pooled_ND = hidden_NLD[torch.arange(len(tokens_NL), device=hidden_NLD.device), tokens_NL.argmax(-1)]
    projection = tower.text_projection
    if projection is None:
        return pooled_ND
    return projection(pooled_ND) if isinstance(projection, nn.Module) else pooled_ND @ projection


def in_lots(length_N: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Embeddings (N, D) of texts that are sorted by their lengths and encoded so many tokens at a time as the device
    likes, so that little is padding.

    Args:
        length_N: tokens of each text.
        encode: numbers of some texts (M,) → their embeddings (M, D).
    """
    lengths, order_N = length_N.sort(stable=True)
    ends, lots, first, most = lengths.tolist(), [], 0, LOT.get(length_N.device.type, LOT_ELSEWHERE)
    while first < len(ends):
        last = first + 1
        while last < len(ends) and (last + 1 - first) * ends[last] <= most:
            last += 1
        lots.append(encode(order_N[first:last]))
        tick("texts", last - first)
        first = last
    sorted_ND = torch.cat(lots)
    embedding_ND = torch.empty_like(sorted_ND)
    embedding_ND[order_N.to(sorted_ND.device)] = sorted_ND
    return embedding_ND
