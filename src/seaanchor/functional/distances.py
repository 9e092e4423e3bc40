"""Distances between embeddings and between class distributions, shared by objectives and anchors.

Legend: B batch, C classes, D embedding dimension.
"""

from torch import Tensor


def squared_distance(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """Squared Euclidean distance (B,), summed over D, of raw (not normalised) embeddings.

    Source: FARE (Schlarmann et al. 2024) eq. 3; LORE eq. 3. Averaging over D instead would change the meaning of rho.
    """
    return (a_BD - b_BD).square().sum(-1)


def kl_divergence(first_BC: Tensor, second_BC: Tensor) -> Tensor:
    """KL(softmax(first) ‖ softmax(second)) per sample (B,), in nats, of two sets of logits. The first is the one
    averaged over."""
    log_first_BC, log_second_BC = first_BC.log_softmax(-1), second_BC.log_softmax(-1)
    return (log_first_BC.exp() * (log_first_BC - log_second_BC)).sum(-1)


def entropy(logits_BC: Tensor) -> Tensor:
    """Entropy of softmax(logits) per sample (B,), in nats."""
    log_BC = logits_BC.log_softmax(-1)
    return -(log_BC.exp() * log_BC).sum(-1)
