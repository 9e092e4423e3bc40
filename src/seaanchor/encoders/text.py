"""Text towers: truncated forward, and texts longer than they read.

Legend: N texts, L tokens, D embedding.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class TextLimit:
    """How many tokens a text tower reads, and how many a text has before its tokenizer cuts it, start and end token included."""

    tokens: int
    count: Callable[[str], int]


def overlong(texts: Sequence[str], limit: TextLimit) -> list[str]:
    """The texts a tokenizer cuts."""
    # a token covers a byte at least, so that short texts, nearly all of them, need no counting; up to 3 tokens are added
    return [text for text in texts if len(text.encode()) + 3 > limit.tokens and limit.count(text) > limit.tokens]


def warn_overlong(texts: Sequence[str], limit: TextLimit) -> None:
    """Tell on stderr which texts are cut: what the model never reads cannot tell two classes apart."""
    cut = overlong(texts, limit)
    if cut and os.environ.get("RANK", "0") == "0":  # of several processes one tells
        shown = cut[0] if len(cut[0]) <= 200 else f"{cut[0][:197]}..."
        _say_once(f"warning: {len(cut)} of {len(texts)} texts are longer than the {limit.tokens} tokens the model reads; their ends are cut. First: {shown!r}")


@cache
def _say_once(message: str) -> None:
    """A policy and its reference read the same texts, and so does every evaluation during training."""
    print(message, file=sys.stderr, flush=True)


def truncate(tokens_NL: Tensor) -> Tensor:
    """Cut what follows the last end-of-text token of the batch. That token has the largest number of the vocabulary; padding cannot
    be told by its 0, which is also the exclamation mark's number."""
    used = int(tokens_NL.argmax(-1).max()) + 1
    return tokens_NL[:, :used]


def encode_text(model: nn.Module, tokens_NL: Tensor) -> Tensor:
    """Raw text embeddings (N, D) of an open_clip model, computed only up to the longest text.

    Causal masking makes the cut exact: no token sees the ones after it. Models whose text tower is not causal, or is not
    open_clip's own transformer, are run at full length.
    """
    tower: Any = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    mask = getattr(tower, "attn_mask", None)
    if not hasattr(tower, "token_embedding") or pool != "argmax" or mask is None or getattr(tower, "cls_emb", None) is not None:
        return model.encode_text(tokens_NL, normalize=False)  # type: ignore[operator] # nn.Module types every attribute as Tensor
    tokens_NL = truncate(tokens_NL)
    length = tokens_NL.shape[1]
    hidden_NLD = tower.token_embedding(tokens_NL) + tower.positional_embedding[:length]
    hidden_NLD = tower.ln_final(tower.transformer(hidden_NLD, attn_mask=mask[:length, :length]))
    pooled_ND = hidden_NLD[torch.arange(len(tokens_NL), device=hidden_NLD.device), tokens_NL.argmax(-1)]
    projection = tower.text_projection
    if projection is None:
        return pooled_ND
    return projection(pooled_ND) if isinstance(projection, nn.Module) else pooled_ND @ projection
