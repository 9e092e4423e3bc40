"""The contract of an encoder.

Legend: B batch, C channels, H W pixels, T tokens, D embedding dimension.
"""

import copy

import torch
from torch import Tensor, nn

from seaanchor.encoders.encoder import LoadedModel
from seaanchor.testing.library import Library
from seaanchor.testing.loaded_model import model_checks
from seaanchor.testing.rules import SIZE, different_images, rule, same_rows, shown


def check_encoder(
    encoder: nn.Module | LoadedModel, image_size: int | None = None, library: Library | None = None
) -> None:
    """Check an encoder, any module from pixels to embeddings, or a loaded model with its text side, a training step and
    its export; weights and mode are left as they were.

    Args:
        encoder: pixels (B, 3, H, W) in [0, 1] → raw embeddings (B, D), or (B, T, D) where its `tokens` are `patches`;
            or what `load_model` returns.
        image_size: side of its images in pixels; `encoder.image_size` by default.
        library: of a loaded model, what its own library makes of the same images and texts.

    Raises:
        AssertionError: names the rule that it breaks.
        SeaAnchorError: of a loaded model, it cannot be exported.
    """
    if isinstance(encoder, LoadedModel):
        check_tower(encoder.encoder, image_size)
        for check in model_checks(encoder, library or Library()).values():
            check()
        return
    check_tower(encoder, image_size)


def check_tower(encoder: nn.Module, image_size: int | None = None) -> None:
    """Check a module from pixels to embeddings alone; arguments and errors as for `check_encoder`."""
    size = image_size or int(getattr(encoder, "image_size", SIZE))
    pixels_BCHW = different_images(size)
    modes = [(module, module.training) for module in encoder.modules()]
    try:
        encoder.eval()
        with torch.no_grad():
            found = encoder(pixels_BCHW)
            _check_embedding(encoder, found, len(pixels_BCHW))
            _check_values(encoder, pixels_BCHW, found)
        leaf = pixels_BCHW.clone().requires_grad_()
        followed = encoder(leaf)
        rule(same_rows(followed.detach(), found), "following gradients does not change the embeddings")
        reached = followed.requires_grad
        grad = torch.autograd.grad(followed.sum(), leaf, allow_unused=True)[0] if reached else None
        moves = grad is not None and bool(grad.isfinite().all()) and bool((grad != 0).any())
        rule(moves, "the gradient reaches the pixels, and is finite")
    finally:
        for module, training in modes:
            module.training = training


def _check_embedding(encoder: nn.Module, found: object, count: int) -> None:
    rule(isinstance(found, Tensor), f"it returns a tensor: {type(found).__name__}")
    assert isinstance(found, Tensor)
    patches = getattr(encoder, "tokens", None) == "patches"
    shape = "(B, T, D)" if patches else "(B, D)"
    fits = found.dim() == 2 + patches and len(found) == count
    rule(fits, f"it returns {shape}, one row for each image: {shown(found)}")
    rule(found.is_floating_point(), f"embeddings are float: {shown(found)}")
    rule(bool(found.isfinite().all()), "embeddings are finite")
    dim = getattr(encoder, "dim", found.shape[-1])
    rule(dim == found.shape[-1], f"`dim` is the width of the embeddings: {dim} and {found.shape[-1]}")


def _check_values(encoder: nn.Module, pixels_BCHW: Tensor, found: Tensor) -> None:
    rule(same_rows(encoder(pixels_BCHW), found, 0.0), "in eval mode the same images give the same embeddings")
    rule(
        same_rows(encoder(pixels_BCHW[:1]), found[:1]),
        "an image's embedding does not depend on what else is in the batch",
    )
    rule(not same_rows(found[:1], found[1:2]), "different images have different embeddings")
    twin = copy.deepcopy(encoder)
    for parameter in twin.parameters():
        parameter.add_(1.0)
    twin.load_state_dict(encoder.state_dict())
    rule(same_rows(twin(pixels_BCHW), found, 0.0), "its state dict holds everything that it computes with")
