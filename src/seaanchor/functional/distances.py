"""Distances between embeddings and between class distributions, shared by objectives and anchors.

Legend: B batch, C classes, T tokens of an image, D embedding dimension.
"""

import torch.nn.functional as F
from torch import Tensor


def squared_distance(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Squared Euclidean distance (B,), summed over D, of raw (not normalised) embeddings; of tokens (B, T, D) the mean
    over an image's tokens.

    Source: FARE (Schlarmann et al. 2024) eq. 3; LORE eq. 3 and, for tokens, its appendix J.8. Averaging over D instead
    would change the meaning of rho.
    """
    return squared_length(a_BD - b_BD)


def squared_length(embedding_BD: Tensor) -> Tensor:
    """Squared Euclidean length (B,) of embeddings (B, D); of tokens (B, T, D) the mean over an image's tokens."""
    return mean_over_tokens(embedding_BD.square().sum(-1))


def relative_distance(embedding_BD: Tensor, reference_BD: Tensor) -> Tensor:
    """Squared distance (B,) as a share of the reference's squared length; of tokens (B, T, D) the ratio of both means
    over an image's tokens."""
    return squared_distance(embedding_BD, reference_BD) / squared_length(reference_BD)


def cosine(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Cosine (B,) of embeddings (B, D); of tokens (B, T, D) the mean over an image's tokens."""
    return mean_over_tokens(F.cosine_similarity(a_BD, b_BD, dim=-1))


def spread(embedding_BD: Tensor) -> Tensor:
    """How far unit embeddings lie apart: their mean squared distance from their mean over B, a scalar in [0, 1], and 0
    where all point the same way or are 0. Of tokens (B, T, D) the mean over the T places of an image."""
    unit_BD = F.normalize(embedding_BD, dim=-1)
    return (unit_BD - unit_BD.mean(0)).square().sum(-1).mean()


def mean_over_tokens(values_B: Tensor) -> Tensor:
    """A number for each image (B,), of one for each of its tokens (B, T) or for the image (B,) itself."""
    return values_B if values_B.dim() == 1 else values_B.mean(1)


def kl_divergence(first_BC: Tensor, second_BC: Tensor) -> Tensor:
    """KL(softmax(first) ‖ softmax(second)) per sample (B,), in nats, of two sets of logits. The first is the one
    averaged over."""
    log_first_BC, log_second_BC = first_BC.log_softmax(-1), second_BC.log_softmax(-1)
    return (log_first_BC.exp() * (log_first_BC - log_second_BC)).sum(-1)


def entropy(logits_BC: Tensor) -> Tensor:
    """Entropy of softmax(logits) per sample (B,), in nats."""
    log_BC = logits_BC.log_softmax(-1)
    return -(log_BC.exp() * log_BC).sum(-1)
