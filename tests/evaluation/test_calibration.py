"""Calibration error against hand counts and a loop over bins in numpy."""

import numpy as np
import pytest
import torch

from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.calibration import Bin, evaluate_calibration


def logits_of(*sureties: float) -> torch.Tensor:
    """Two-class logits whose first class has these probabilities."""
    p = torch.tensor(sureties, dtype=torch.float64)
    return torch.stack([p.log(), (1 - p).log()], 1)


def by_loop(logits: np.ndarray, labels: np.ndarray, num_bins: int) -> float:
    exp = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exp / exp.sum(1, keepdims=True)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for b in range(num_bins):
        inside = (confidence > b / num_bins) & (confidence <= (b + 1) / num_bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_by_hand():
    """Bins of a tenth: .95 and .93 share one, one of them right; .72 has one of its own and is right."""
    result = evaluate_calibration(logits_of(0.95, 0.93, 0.72), torch.tensor([0, 1, 0]), num_bins=10)
    assert result.ece == pytest.approx(2 / 3 * (0.94 - 0.5) + 1 / 3 * (1 - 0.72))
    assert result.bins[9] == Bin(2, pytest.approx(0.94), 0.5)
    assert result.bins[0] == Bin(0, None, None)
    assert result.accuracy.n == 3 and result.accuracy.accuracy == pytest.approx(2 / 3)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    sure = logits_of(0.999999, 0.999999)
    assert evaluate_calibration(sure, torch.tensor([0, 0])).ece < 1e-5
    assert evaluate_calibration(sure, torch.tensor([1, 1])).ece > 1 - 1e-5


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_against_a_loop(num_bins):
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(500, 7)), rng.integers(7, size=500)
    labels[::2] = logits[::2].argmax(1)
    expected = by_loop(logits, labels, num_bins)
    result = evaluate_calibration(torch.from_numpy(logits), torch.from_numpy(labels), num_bins)
    assert result.ece == pytest.approx(expected, abs=1e-12)
    assert sum(row.count for row in result.bins) == 500


def test_no_image():
    with pytest.raises(ValueError, match="no image"):
        evaluate_calibration(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))


def test_the_embedded_model_is_surer_at_a_larger_scale():
    model, images = load_model("seaanchor-tiny"), subset(open_images("photos-mini/test"), 200, 0)
    batch = next(batches(ImageDataset(images, 64), 200, workers=0, order=None, skip_log=SkipLog(images)))
    with torch.no_grad():
        logits = build_head(model, images.class_names)(model.encoder(batch.pixels_BCHW))
    own, doubled = (evaluate_calibration(scale * logits, batch.label_B) for scale in (1, 2))
    assert doubled.confidence > own.confidence > 1 / 40
    assert doubled.accuracy == own.accuracy
    assert own.ece == pytest.approx(by_loop(logits.double().numpy(), batch.label_B.numpy(), 15), abs=1e-9)
