"""Mean IoU against scikit-learn's confusion matrix, by hand, and its intervals against plain resampling."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score

from seaanchor.evaluation.mean_iou import (
    SegmentationScore,
    constant_miou,
    counts_of,
    mean_iou,
    packed,
    paired_difference_of_miou,
    resampled,
    score_of,
    unpacked,
)

VOID = 255


def masks(count=6, classes=4, side=8, seed=0, void=0.1):
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (count, side, side), generator=rng)
    answer = torch.where(
        torch.rand(label.shape, generator=rng) < 0.6, label, torch.randint(classes, label.shape, generator=rng)
    )
    label[torch.rand(label.shape, generator=rng) < void] = VOID
    return answer, label


def test_by_hand():
    """Two images. Class 0: 3 right of 5 labelled and 4 answered, IoU 3/6; class 1: 2 of 2 and 3, IoU 2/3; class 2:
    labelled once, never answered, IoU 0; class 3 is nowhere."""
    label = torch.tensor([[[0, 0, 0, 1]], [[0, 0, 1, 2]]])
    answer = torch.tensor([[[0, 0, 1, 1]], [[0, 1, 1, 0]]])
    counts = counts_of(answer, label, 4, VOID)
    assert counts[0].tolist() == [[2, 1, 0, 0], [3, 1, 0, 0], [2, 2, 0, 0]]
    score = score_of(counts, ("a", "b", "c", "d"))
    assert score.iou == pytest.approx({"a": 3 / 6, "b": 2 / 4, "c": 0.0})
    assert score.miou == pytest.approx((3 / 6 + 2 / 4 + 0) / 3) and score.classes == 3
    assert score.pixel_accuracy == pytest.approx(5 / 8) and score.n == 2


def test_against_scikit_learn():
    answer, label = masks()
    known = (label != VOID).numpy()
    truth, said = label.numpy()[known], answer.numpy()[known]
    matrix = confusion_matrix(truth, said, labels=range(5))
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    score = score_of(counts_of(answer, label, 5, VOID), "abcde")
    assert score.miou == pytest.approx(np.mean(matrix.diagonal()[:4] / union[:4]))
    assert score.miou == pytest.approx(jaccard_score(truth, said, average="macro"))
    assert score.pixel_accuracy == pytest.approx(matrix.diagonal().sum() / matrix.sum())
    assert "e" not in score.iou


def test_pixels_without_a_class_count_for_nothing():
    answer, label = masks(void=0.3)
    other = torch.where(label == VOID, (answer + 1) % 4, answer)
    assert torch.equal(counts_of(answer, label, 4, VOID), counts_of(other, label, 4, VOID))
    with pytest.raises(ValueError, match="no pixel with a class"):
        score_of(counts_of(answer, torch.full_like(label, VOID), 4, VOID), "abcd")


def test_accumulated_over_the_set_and_not_a_mean_of_images():
    answer, label = torch.zeros(2, 1, 4, dtype=torch.long), torch.zeros(2, 1, 4, dtype=torch.long)
    label[0, 0, :3] = 1
    score = score_of(counts_of(answer, label, 2, VOID), "ab")
    assert score.miou == pytest.approx((5 / 8 + 0) / 2)


def test_the_interval_is_that_of_resampled_images():
    answer, label = masks(count=30, seed=1)
    counts = counts_of(answer, label, 4, VOID).numpy()
    score, rng = score_of(counts, "abcd"), np.random.default_rng(7)
    drawn = [mean_iou(counts[rng.integers(0, 30, 30)].sum(0)[None])[0] for _ in range(2000)]
    assert score.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.003)
    assert score.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.003)
    assert score.low < score.miou < score.high
    assert resampled(counts).sum((1, 2)).std() > 0


def test_a_paired_difference_draws_the_same_images_for_both():
    """A model that is always the same bit better on images of very different difficulty: the interval of the
    difference is far narrower than those of the two."""
    answer, label = masks(count=40, seed=2, void=0)
    for image in range(40):  # from right to wrong
        answer[image, : image // 6] = (label[image, : image // 6] + 1) % 4
    better = answer.clone()
    better[:, -1] = label[:, -1]
    one, other = (counts_of(x, label, 4, VOID).numpy() for x in (better, answer))
    middle, low, high = paired_difference_of_miou(one, other)
    alone = score_of(one, "abcd"), score_of(other, "abcd")
    assert middle == pytest.approx(alone[0].miou - alone[1].miou) and low < middle < high and low > 0
    assert high - low < 0.5 * min(x.high - x.low for x in alone)
    assert paired_difference_of_miou(one, one) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same images"):
        paired_difference_of_miou(one, other[:-1])


def test_a_constant_predictor_against_scikit_learn():
    answer, label = masks(void=0.2)
    label[label == 1] = 0  # so that 0 is the most frequent, and 1 is nowhere
    truth = label[label != VOID].numpy()
    found = constant_miou(counts_of(answer, label, 4, VOID).numpy())
    assert found == pytest.approx(jaccard_score(truth, 0 * truth, average="macro"))


def test_counts_come_back_from_text():
    answer, label = masks()
    counts = counts_of(answer, label, 4, VOID).numpy()
    assert (unpacked(packed(counts), len(counts)) == counts).all()
    assert (score_of(counts, "abcd").counts_N3C == counts).all()
    assert SegmentationScore(0.5).counts_N3C is None
