"""The scales of batch normalisation, put into the convolutions before it: the same tower, easier to fine-tune.

Legend: O channels of a convolution's output.
"""

from typing import Any

import torch

from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.kernels.convolution_layers import pairs_of


@torch.no_grad()
def fold_norm_scales(encoder: Encoder) -> int:
    """Multiply the weights of each convolution by the scale of the batch normalisation that follows it, in place, and
    let that scale be 1.

    A tower trains with the statistics of its pre-training, so that a normalisation multiplies channel o by a constant,
    weight / sqrt(running_var + eps). Adam moves every weight by about the learning rate, whatever that constant is: a
    channel of constant 50, whose weights are small, moves fifty times as far as its neighbour of constant 1. In
    EfficientNet-Lite0 constants reach 75. Names and shapes of all entries stay, so that exports load as before.

    Args:
        encoder: in eval mode or trained with frozen statistics. One without such pairs, as a transformer, stays as it
            is.

    Returns:
        How many normalisations were folded.

    Source:
        Nagel, van Baalen, Blankevoort and Welling, 2019 (arXiv 1906.04721), sections 3.2 and 4.1: batch normalisation
        folds into convolutions, and channels may be rescaled without a change of the function.
    """
    pairs = pairs_of(encoder)
    layers = dict(encoder.named_modules())
    for conv, norm in pairs.items():
        _fold(layers[conv], layers[norm])
    return len(pairs)


def _fold(conv: Any, norm: Any) -> None:
    scale_O = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        scale_O *= norm.weight.double()
        norm.weight.fill_(1)
    conv.weight.copy_(conv.weight.double() * scale_O.view(-1, 1, 1, 1))
    if conv.bias is not None:
        conv.bias.copy_(conv.bias.double() * scale_O)
    norm.running_mean.mul_(scale_O)
    norm.running_var.fill_(1 - norm.eps)
