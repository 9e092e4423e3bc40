"""The contract of an encoder.

Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

import copy

import torch
from torch import Tensor, nn

from seaanchor.testing.rules import SIZE, close, rule, shown


def check_encoder(encoder: nn.Module, image_size: int | None = None) -> None:
    """Check an encoder, or any module from pixels to embeddings; its weights and mode are left as they were.

    Args:
        encoder: pixels (B, 3, H, W) in [0, 1] → raw embeddings (B, D).
        image_size: side of its images in pixels; `encoder.image_size` by default.

    Raises:
        AssertionError: names the rule that it breaks.
    """
    size = image_size or int(getattr(encoder, "image_size", SIZE))
    pixels_BCHW = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    modes = [(module, module.training) for module in encoder.modules()]
    try:
        encoder.eval()
        with torch.no_grad():
            found = encoder(pixels_BCHW)
            rule(isinstance(found, Tensor), f"it returns a tensor: {type(found).__name__}")
            rule(found.dim() == 2 and len(found) == 4, f"it returns (B, D), one row for each image: {shown(found)}")
            rule(found.is_floating_point(), f"embeddings are float: {shown(found)}")
            rule(bool(found.isfinite().all()), "embeddings are finite")
            dim = getattr(encoder, "dim", found.shape[1])
            rule(dim == found.shape[1], f"`dim` is the width of the embeddings: {dim} and {found.shape[1]}")
            rule(torch.equal(encoder(pixels_BCHW), found), "in eval mode the same images give the same embeddings")
            alone = torch.cat([encoder(pixels_BCHW[i : i + 1]) for i in range(4)])
            rule(close(alone, found), "an image's embedding does not depend on what else is in the batch")
            rule(not close(found[:1], found[1:2]), "different images have different embeddings")
            twin = copy.deepcopy(encoder)
            for parameter in twin.parameters():
                parameter.add_(1.0)
            twin.load_state_dict(encoder.state_dict())
            rule(torch.equal(twin(pixels_BCHW), found), "its state dict holds everything that it computes with")
        leaf = pixels_BCHW.clone().requires_grad_()
        embedding = encoder(leaf)
        reached = embedding.requires_grad
        grad = torch.autograd.grad(embedding.sum(), leaf, allow_unused=True)[0] if reached else None
        rule(grad is not None and bool((grad != 0).any()), "the gradient reaches the pixels")
    finally:
        for module, training in modes:
            module.training = training
