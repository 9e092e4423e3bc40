"""Where an objective's gradient goes, image by image."""

import pytest
import torch

from studies.gradients import Weights, spending_gap


def weights(gradient_B: torch.Tensor) -> Weights:
    """Of 100 images, of which the first 20 are still fooled."""
    return Weights(0, gradient_B, torch.zeros(100), torch.arange(100) < 20)


def test_shares_by_hand():
    even, steep = weights(torch.ones(100)), weights(torch.cat([torch.full((10,), 9.0), torch.full((90,), 1.0)]))
    assert even.spent_on_fooled == pytest.approx(0.2) and even.spent_on_tenth == pytest.approx(0.1)
    assert steep.spent_on_tenth == pytest.approx(0.5) and steep.spent_on_fooled == pytest.approx(100 / 180)


def test_a_gap_and_its_interval():
    """A tenth of the images takes half of one gradient and a tenth of the other; without a difference the interval
    holds 0."""
    even, steep = weights(torch.ones(100)), weights(torch.cat([torch.full((10,), 9.0), torch.full((90,), 1.0)]))
    gap = spending_gap(lambda w: w.spent_on_tenth, [steep, steep], [even, even])
    assert gap.mean == pytest.approx(40) and 15 < gap.low < 38 and gap.high == pytest.approx(40), (
        "ten steep ones take the most"
    )
    torch.manual_seed(0)
    noisy = [weights(torch.rand(100)) for _ in range(2)]
    same = spending_gap(lambda w: w.spent_on_tenth, noisy[:1], noisy[1:])
    assert same.low < 0 < same.high
    favoured = spending_gap(lambda w: w.excess_on_fooled, [steep], [even])
    assert favoured.mean == pytest.approx(100 * (100 / 180 - 0.2)) and 0 < favoured.low < favoured.high, (
        "the ten are among the twenty that are fooled"
    )
