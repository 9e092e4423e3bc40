"""What a module must do to be an image tower, tried on two random images.

Legend: B batch, C channels, H W pixels, T patch tokens, D embedding dimension.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.errors import SeaAnchorError

EXPECTED = "a tensor (B, D) of floats for pixels (B, 3, H, W)"


def measured_dim(module: nn.Module, image_size: int) -> int:
    """D of a module, found by a forward of two random images in eval mode.

    Args:
        module: maps pixels (B, 3, H, W) in [0, 1] to embeddings (B, D), or (B, T, D) where its `tokens` are `patches`.
        image_size: H and W in pixels.

    Raises:
        SeaAnchorError: the module has no parameters, fails on such images, returns something else than finite floats
            (B, D), returns other values when it is asked again, or lets no gradient through to the pixels.
    """
    name = type(getattr(module, "tower", module)).__name__
    first = next(module.parameters(), None)
    if first is None:
        raise SeaAnchorError(f"{name} has no parameters", "a module that can be trained", "pass the network itself")
    rng = torch.Generator().manual_seed(0)
    pixels_BCHW = torch.rand(2, 3, image_size, image_size, generator=rng).to(first.device)
    with _in_eval_mode(module):
        embedding_BD = _forward(name, module, pixels_BCHW)
        again_BD = _forward(name, module, pixels_BCHW)
    if not torch.equal(embedding_BD, again_BD):
        raise SeaAnchorError(
            f"{name} gives other embeddings when the same images are embedded again in eval mode",
            "the same values: the reference and the attacks rely on them",
            "switch its noise off when self.training is False, as torch.nn.Dropout does",
        )
    if not embedding_BD.requires_grad:
        raise SeaAnchorError(
            f"no gradient reaches the pixels through {name}",
            "a differentiable module: attacks follow that gradient",
            "remove torch.no_grad and detach from its forward",
        )
    return embedding_BD.shape[-1]


def _forward(name: str, module: nn.Module, pixels_BCHW: Tensor) -> Tensor:
    leaf_BCHW = pixels_BCHW.clone().requires_grad_()
    try:
        with torch.enable_grad():
            found = module(leaf_BCHW)
    except Exception as error:  # a module raises whatever it likes
        raise SeaAnchorError(
            f"{name} fails on pixels of shape {tuple(pixels_BCHW.shape)}: {type(error).__name__}: {str(error)[:200]}",
            EXPECTED,
            "set image_size to what the module takes, or correct its forward",
        ) from error
    return _checked(name, found, len(pixels_BCHW), 3 if getattr(module, "tokens", None) == "patches" else 2)


def _checked(name: str, found: Any, count: int, dimensions: int) -> Tensor:
    if not isinstance(found, Tensor):
        raise SeaAnchorError(f"{name} returns {_described(found)}", EXPECTED, "return the embedding alone from forward")
    if found.dim() != dimensions:
        raise SeaAnchorError(
            f"{name} returns a tensor of shape {tuple(found.shape)}",
            EXPECTED,
            "pool the positions and flatten the rest, for instance with features.mean((2, 3)) or tokens[:, 0]",
        )
    if found.shape[0] != count:
        raise SeaAnchorError(
            f"{name} returns {found.shape[0]} embeddings for {count} images",
            EXPECTED,
            "return one embedding for each image, in the same order",
        )
    if not found.is_floating_point():
        raise SeaAnchorError(
            f"{name} returns values of {found.dtype}", EXPECTED, "return the embedding and not a class number or a code"
        )
    if not bool(found.isfinite().all()):
        raise SeaAnchorError(f"{name} returns values that are not finite", EXPECTED, "check its weights, mean and std")
    return found


def _described(found: Any) -> str:
    kind = type(found).__name__
    if isinstance(found, tuple | list):
        return f"a {kind} of {len(found)} parts"
    return f"a {kind} of {', '.join(map(str, found))}" if isinstance(found, dict) else kind


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    training = [child for child in module.modules() if child.training]
    module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True
