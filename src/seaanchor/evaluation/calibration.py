"""Calibration: whether a classifier is right as often as it is sure.

Legend: N images, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from seaanchor.evaluation.statistics import Share, share_of

NUM_BINS = 15


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies in one bin: their count, mean confidence and accuracy (None where it is empty)."""

    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy lie apart.

    Attributes:
        ece: expected calibration error, in [0, 1].
        confidence: mean over images.
        bins: what a reliability diagram shows.
        accuracy: with its interval.
    """

    ece: float
    confidence: float
    bins: tuple[Bin, ...]
    accuracy: Share


def evaluate_calibration(logits_NC: Tensor, label_N: Tensor, num_bins: int = NUM_BINS) -> Calibration:
    """Expected calibration error of softmax(logits): Σ_b n_b/N · |accuracy_b − confidence_b| over bins of equal width.

    Confidence is the probability of the likeliest class, which depends on the scale of the logits: hand in those at the
    model's own logit scale. Bins are open at their lower edge and closed at their upper one.

    Args:
        logits_NC: (N, C).
        label_N: (N,).
        num_bins: at least 1.

    Raises:
        ValueError: no image.

    Source: Guo, Pleiss, Sun, Weinberger 2017, eq. 3 and §4 (15 bins).

    >>> evaluate_calibration(torch.zeros(2, 2), torch.tensor([0, 1])).ece
    0.0
    """
    confidence_N, answer_N = logits_NC.double().softmax(-1).max(-1)
    return calibration_of(confidence_N, answer_N == label_N, num_bins)


def calibration_of(confidence_N: Tensor, correct_N: Tensor, num_bins: int = NUM_BINS) -> Calibration:
    """`evaluate_calibration` from the likeliest class's probability (N,), and whether it is the right one (N,)."""
    if len(confidence_N) == 0:
        raise ValueError("there is no image; expected at least one")
    confidence_N = confidence_N.double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64, device=confidence_N.device)[1:-1]
    bin_N = torch.bucketize(confidence_N, edges)
    counts, sure, right = (
        torch.bincount(bin_N, weights=weight, minlength=num_bins).tolist()
        for weight in (torch.ones_like(confidence_N), confidence_N, correct_N.double())
    )
    bins = tuple(
        Bin(int(count), s / count if count else None, r / count if count else None)
        for count, s, r in zip(counts, sure, right, strict=True)
    )
    gap = sum(abs(r - s) for s, r in zip(sure, right, strict=True))
    return Calibration(gap / len(correct_N), confidence_N.mean().item(), bins, share_of(correct_N))
