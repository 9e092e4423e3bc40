"""Text towers: truncated forward.

Legend: N texts, L tokens, D embedding.
"""

import torch
from torch import Tensor, nn


def truncate(tokens_NL: Tensor) -> Tensor:
    """Cut the padding that no text of the batch reaches (padding is 0 in CLIP's tokenizers)."""
    used = int((tokens_NL != 0).sum(1).max())
    return tokens_NL[:, :used]


def encode_text(model: nn.Module, tokens_NL: Tensor) -> Tensor:
    """Raw text embeddings (N, D) of an open_clip model, computed only up to the longest text.

    Causal masking makes the cut exact: no token sees the ones after it. Models whose text tower is not causal, or is not
    open_clip's own transformer, are run at full length.
    """
    tower = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", None))
    mask = getattr(tower, "attn_mask", None)
    if not hasattr(tower, "token_embedding") or pool != "argmax" or mask is None or getattr(tower, "cls_emb", None) is not None:
        return model.encode_text(tokens_NL)  # type: ignore[operator]
    tokens_NL = truncate(tokens_NL)
    length = tokens_NL.shape[1]
    hidden = tower.token_embedding(tokens_NL) + tower.positional_embedding[:length]
    hidden = tower.ln_final(tower.transformer(hidden, attn_mask=mask[:length, :length]))
    pooled = hidden[torch.arange(len(tokens_NL), device=hidden.device), tokens_NL.argmax(-1)]
    projection = tower.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if isinstance(projection, nn.Module) else pooled @ projection
