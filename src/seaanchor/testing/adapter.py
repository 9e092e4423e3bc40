"""The contract of an adapter.

Legend: B batch, D embedding dimension.
"""

import torch
import torch.nn.functional as F
from torch import nn

from seaanchor.adapters.linear_map import LinearMap
from seaanchor.testing.rules import TEXTS, B, D, close, draw, rule, shown, small_encoder, some_images
from seaanchor.types import Adapter, Head, needs_of


def check_adapter(adapter: Adapter, module: nn.Module | None = None) -> None:
    """Check an adapter.

    Args:
        adapter: the part.
        module: what it adapts, images of 32 pixels → embeddings (B, 8), or embeddings (B, 8) → embeddings where the
            adapter declares `stored_embeddings`; a small one by default.

    Raises:
        AssertionError: names the rule that it breaks.
    """
    stored = needs_of(adapter).stored_embeddings
    if module is None:
        module = LinearMap(D) if stored else small_encoder()
    module.eval()
    inputs = draw(B, D) if stored else some_images().pixels_BCHW
    with torch.no_grad():
        before_BD = module(inputs)
    moved = list(adapter.trainable(module))
    inside = {id(p) for p in module.parameters()}
    rule(len(moved) > 0 and all(isinstance(p, nn.Parameter) for p in moved), "trainable returns parameters")
    rule(len({id(p) for p in moved}) == len(moved), "no parameter is returned twice")
    rule(all(id(p) in inside for p in moved), "what moves belongs to the module")
    chosen = {id(p) for p in moved}
    right = all(p.requires_grad == (id(p) in chosen) for p in module.parameters())
    rule(right, "what moves asks for gradients, and all else is frozen")
    with torch.no_grad():
        rule(close(module(inputs), before_BD), "the policy starts where the reference is")
    output_BD = module(inputs)
    rule(output_BD.requires_grad, "what moves changes the embeddings")
    found = torch.autograd.grad(output_BD.square().sum(), moved, allow_unused=True)
    rule(any(g is not None and bool((g != 0).any()) for g in found), "what moves changes the embeddings")
    head = Head(F.normalize(draw(len(TEXTS), D), dim=-1), 10.0)
    rule(adapter.head(module, None) is None, "without class texts there is no head")
    own = adapter.head(module, head)
    if own is not None:
        lengths = own.weight_CD.norm(dim=-1)
        rule(
            len(lengths) == len(TEXTS) and close(lengths, torch.ones(len(TEXTS))), "its head has unit rows, one a text"
        )
    penalty = adapter.penalty(module)
    if penalty is not None:
        rule(penalty.shape == () and bool(penalty.isfinite()), f"the penalty is a scalar: {shown(penalty)}")
