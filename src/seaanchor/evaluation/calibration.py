"""Calibration: whether a classifier is right as often as it is sure.

Legend: N images, C classes.
"""

from typing import Any

import torch
from torch import Tensor

from seaanchor.evaluation.statistics import proportion

NUM_BINS = 15


def evaluate_calibration(logits_NC: Tensor, label_N: Tensor, num_bins: int = NUM_BINS) -> dict[str, Any]:
    """Expected calibration error of softmax(logits): Σ_b n_b/N · |accuracy_b − confidence_b| over bins of equal width.

    Confidence is the probability of the likeliest class, which depends on the scale of the logits: hand in those at the
    model's own logit scale. Bins are open at their lower edge and closed at their upper one.

    Args:
        logits_NC: (N, C).
        label_N: (N,).
        num_bins: at least 1.

    Returns:
        `ece` in [0, 1], the mean `confidence`, the accuracy with its interval, and per bin its count, and its mean
        confidence and accuracy (None where it is empty): what a reliability diagram shows.

    Raises:
        ValueError: no image.

    Source: Guo, Pleiss, Sun, Weinberger 2017, eq. 3 and §4 (15 bins).

    >>> evaluate_calibration(torch.zeros(2, 2), torch.tensor([0, 1]))["ece"]
    0.0
    """
    confidence_N, answer_N = logits_NC.double().softmax(-1).max(-1)
    return calibration_of(confidence_N, answer_N == label_N, num_bins)


def calibration_of(confidence_N: Tensor, correct_N: Tensor, num_bins: int = NUM_BINS) -> dict[str, Any]:
    """`evaluate_calibration` from what is left of the logits: the likeliest class's probability (N,), and whether it is
    the right one (N,)."""
    if len(confidence_N) == 0:
        raise ValueError("there is no image; expected at least one")
    confidence_N = confidence_N.double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64, device=confidence_N.device)[1:-1]
    bin_N = torch.bucketize(confidence_N, edges)
    counts, sure, right = (
        torch.bincount(bin_N, weights=weight, minlength=num_bins).tolist()
        for weight in (torch.ones_like(confidence_N), confidence_N, correct_N.double())
    )
    bins = [
        {"count": int(count), "confidence": s / count if count else None, "accuracy": r / count if count else None}
        for count, s, r in zip(counts, sure, right, strict=True)
    ]
    gap = sum(abs(r - s) for s, r in zip(sure, right, strict=True))
    return {"ece": gap / len(correct_N), "confidence": confidence_N.mean().item(), "bins": bins} | proportion(correct_N)
