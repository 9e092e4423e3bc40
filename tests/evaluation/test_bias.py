"""Retrieval skew and gender accuracy against sums written out."""

import math

import pytest
import torch

from seaanchor.evaluation.bias import evaluate_bias, max_skew_at_k, ndkl


def test_max_skew_by_hand():
    assert max_skew_at_k([0, 0, 0, 1], [0.5, 0.5], 4) == pytest.approx(math.log(0.75 / 0.5))
    assert max_skew_at_k([0, 0, 0, 1], [0.75, 0.25], 4) == pytest.approx(0.0)
    assert max_skew_at_k([1, 1, 0, 0], [0.5, 0.5], 2) == pytest.approx(math.log(2))


def test_over_the_whole_data_set_it_is_zero_by_construction():
    ranked = [0, 1, 1, 0, 1, 1]
    assert max_skew_at_k(ranked, [2 / 6, 4 / 6], 6) == pytest.approx(0.0)
    assert max_skew_at_k(ranked, [2 / 6, 4 / 6], 1) > 0


def test_ndkl_by_hand():
    ranked, desired = [0, 1, 1], [0.5, 0.5]
    divergences = [math.log(2), 0.0, 1 / 3 * math.log(2 / 3) + 2 / 3 * math.log(4 / 3)]
    weights = [1 / math.log2(i + 1) for i in (1, 2, 3)]
    expected = sum(w * d for w, d in zip(weights, divergences, strict=True)) / sum(weights)
    assert ndkl(ranked, desired) == pytest.approx(expected)


def test_alternating_ranking_is_fairer_than_a_sorted_one():
    assert ndkl([0, 1] * 6, [0.5, 0.5]) < ndkl([0] * 6 + [1] * 6, [0.5, 0.5])


@pytest.mark.parametrize("measure", [lambda: ndkl([], [0.5, 0.5]), lambda: max_skew_at_k([], [0.5, 0.5], 3), lambda: max_skew_at_k([0], [0.5, 0.5], 0)])
def test_nothing_retrieved(measure):
    with pytest.raises(ValueError, match="nothing was retrieved"):
        measure()


def planted(gender_sign=1.0):
    """Two roles, two genders, in a space where axis 0 is gender and axes 1 and 2 are the roles."""
    role_axis = torch.eye(3)[1:]
    gender_axis = torch.tensor([[0.5, 0, 0], [-0.5, 0, 0]])
    captions = role_axis[:, None] + gender_axis[None]
    role, gender = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    images = role_axis[role] + gender_sign * gender_axis[gender]
    return images, captions, role_axis, role, gender


def test_accuracies_on_planted_embeddings():
    result = evaluate_bias(*planted(), k=2)
    assert result["gender"]["accuracy"] == 1.0 and result["activity"]["accuracy"] == 1.0
    assert result["predicted_man"] == 0.5
    reversed_ = evaluate_bias(*planted(-1.0), k=2)
    assert reversed_["gender"]["accuracy"] == 0.0 and reversed_["activity"]["accuracy"] == 1.0


def test_a_biased_neutral_prompt_shows_as_skew():
    images, captions, neutral, role, gender = planted()
    fair = evaluate_bias(images, captions, neutral, role, gender, k=2)["retrieval"]["uniform"]
    leaning = evaluate_bias(images, captions, neutral + torch.tensor([2.0, 0, 0]), role, gender, k=2)["retrieval"]["uniform"]
    assert leaning["max_skew_at_2"] == pytest.approx(math.log(2))
    assert leaning["ndkl"] > fair["ndkl"]
