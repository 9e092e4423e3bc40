"""Transformers whose embedding is their class token: the last block computes that token alone.

In the last block the other tokens are keys and values of the attention; what becomes of them behind it is read by
nobody. Without their queries, projections and MLP the block takes 4 of its 24·w² products a token, so that a tower of
12 blocks takes 7 % fewer operations, forward and backward, for the same numbers.

Legend: B batch, C channels, H W pixels, T tokens, E width of the tower, D embedding dimension.
"""

from collections.abc import Iterator

from torch import nn

from seaanchor.encoders.tokens import TokenTower


def class_token_layers(module: nn.Module) -> Iterator[tuple[nn.Module, type[nn.Module]]]:
    """Towers and their last blocks, with the classes that compute the class token alone.

    Only towers that are known to read nothing else. Of OpenCLIP's and timm's their own `forward` decides, so that a
    module which asks such a tower for all its tokens still gets them. A block with hooks shows all tokens to them.
    """
    inside = list(module.modules())
    if any(isinstance(layer, TokenTower) for layer in inside):
        return
    for layer in inside:
        library = type(layer).__module__
        if library == "open_clip.transformer":
            from seaanchor.encoders.kernels import openclip_class_token

            yield from openclip_class_token.layers(layer)
        elif library == "timm.models.vision_transformer":
            from seaanchor.encoders.kernels import timm_class_token

            yield from timm_class_token.layers(layer)
        elif library == "seaanchor.encoders.huggingface.towers":
            from seaanchor.encoders.kernels import huggingface_class_token

            yield from huggingface_class_token.layers(layer)


def is_watched(layer: nn.Module) -> bool:
    """Whether somebody looks at what a layer, or one inside it, takes and gives."""
    return any(inner._forward_hooks or inner._forward_pre_hooks for inner in layer.modules())
