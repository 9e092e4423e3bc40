"""Distances by hand, and against torch's own."""

import math

import pytest
import torch
import torch.nn.functional as F

from seaanchor.functional.distances import (
    cosine,
    entropy,
    kl_divergence,
    relative_distance,
    spread,
    squared_distance,
    squared_length,
)


def test_squared_distance_repeats_with_dimension():
    a, b = torch.randn(4, 8), torch.randn(4, 8)
    assert torch.allclose(squared_distance(a.repeat(1, 5), b.repeat(1, 5)), 5 * squared_distance(a, b))


def test_spread_by_hand():
    """Unit vectors at right angles lie √½ from their mean; what points the same way, and 0, lies nowhere apart."""
    axes = torch.tensor([[3.0, 0.0], [0.0, 0.1]])
    assert spread(axes).item() == pytest.approx(0.5)
    assert spread(torch.tensor([[1.0, 2.0], [10.0, 20.0]])).item() == pytest.approx(0, abs=1e-6)
    assert spread(torch.zeros(3, 4)).item() == 0
    tokens = torch.stack([axes, torch.ones(2, 2)], 1)  # (B, T, D): the first place apart, the second alike
    assert spread(tokens).item() == pytest.approx(0.25)


def test_of_tokens_the_mean_is_taken_by_hand():
    """Image 1: tokens 5 and 2 apart, squared 25 and 4; image 2: 1 and 0."""
    a = torch.tensor([[[3.0, 4.0], [0.0, 2.0]], [[1.0, 0.0], [7.0, 7.0]]])
    b = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [7.0, 7.0]]])
    assert squared_distance(a, b).tolist() == [14.5, 0.5]
    assert squared_length(a).tolist() == [14.5, 49.5]
    assert torch.allclose(relative_distance(b, a), torch.tensor([1.0, 0.5 / 49.5]))
    c = torch.tensor([[[0.0, 2.0], [0.0, 2.0]], [[0.0, 3.0], [1.0, 1.0]]])  # at cosines .8, 1 and 0, 1 to those of a
    assert torch.allclose(cosine(a, c), torch.tensor([0.9, 0.5]))
    assert torch.equal(squared_distance(a[:, :1], b[:, :1]), squared_distance(a[:, 0], b[:, 0]))


def test_kl_has_the_reference_first_and_matches_torch():
    first, second = torch.log(torch.tensor([[0.5, 0.5]])), torch.log(torch.tensor([[0.9, 0.1]]))
    assert kl_divergence(first, second).item() == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert kl_divergence(second, first).item() == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))
    a, b = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    theirs = F.kl_div(b.log_softmax(-1), a.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    assert torch.allclose(kl_divergence(a, b), theirs)
    assert torch.allclose(entropy(a), torch.distributions.Categorical(logits=a).entropy())


def test_distances_of_single_rows_by_hand():
    a, b = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[4.0, -2.0], [0.0, 0.0]])
    assert squared_distance(a, b).tolist() == [25.0, 0.0]
    even, sure = torch.zeros(1, 4), torch.tensor([[1e3, 0.0, 0.0, 0.0]])
    assert entropy(even).item() == pytest.approx(math.log(4)) and entropy(sure).item() == pytest.approx(0.0)
    assert kl_divergence(even, even).item() == pytest.approx(0.0, abs=1e-7)
    assert kl_divergence(torch.randn(50, 4), torch.randn(50, 4)).min() > 0
