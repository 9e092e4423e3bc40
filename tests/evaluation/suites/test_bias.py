"""Retrieval skew and gender accuracy against sums written out."""

import math

import pytest
import torch
from fairlearn.metrics import MetricFrame, count, demographic_parity_ratio, selection_rate

from seaanchor.data.sources import open_images
from seaanchor.evaluation.suites.bias import caveat, evaluate_bias, max_skew_at_k, max_skews, ndkl, ndkls


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


@pytest.mark.parametrize(
    "measure",
    [lambda: ndkl([], [0.5, 0.5]), lambda: max_skew_at_k([], [0.5, 0.5], 3), lambda: max_skew_at_k([0], [0.5, 0.5], 0)],
)
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
    assert result.gender.accuracy == 1.0 and result.activity.accuracy == 1.0
    assert result.predicted_man == 0.5
    reversed_ = evaluate_bias(*planted(-1.0), k=2)
    assert reversed_.gender.accuracy == 0.0 and reversed_.activity.accuracy == 1.0


def test_a_biased_neutral_prompt_shows_as_skew():
    images, captions, neutral, role, gender = planted()
    fair = evaluate_bias(images, captions, neutral, role, gender, k=2).retrieval["uniform"]
    leaning = evaluate_bias(images, captions, neutral + torch.tensor([2.0, 0, 0]), role, gender, k=2).retrieval[
        "uniform"
    ]
    assert leaning["max_skew_at_2"] == pytest.approx(math.log(2))
    assert leaning["ndkl"] > fair["ndkl"]


def rankings(rows=6, items=23, groups=3):
    return torch.randint(groups, (rows, items), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("desired", [[1 / 3, 1 / 3, 1 / 3], [0.2, 0.5, 0.3]])
@pytest.mark.parametrize("k", [1, 4, 10, 50])
def test_all_rankings_at_once_give_what_each_gives_alone(desired, k):
    ranked, shares = rankings(), torch.tensor(desired, dtype=torch.float64)
    assert max_skews(ranked, shares, k).tolist() == pytest.approx(
        [max_skew_at_k(row, desired, k) for row in ranked.tolist()]
    )
    assert ndkls(ranked, shares).tolist() == pytest.approx([ndkl(row, desired) for row in ranked.tolist()])


def test_numbers_worked_by_hand():
    """Top 4 of M M M W: ln(.75/.5) = .405465. NDKL: the shares of men are 1, 1, 1, 3/4, with KL to one half of ln 2
    three times and then .75·ln 1.5 + .25·ln .5 = .130812, weighted by 1, .630930, .5, .430677: (.693147·2.130930 +
    .130812·.430677) / 2.561606."""
    ranked, equal = torch.tensor([[0, 0, 0, 1]]), torch.tensor([0.5, 0.5], dtype=torch.float64)
    assert max_skews(ranked, equal, 4).item() == pytest.approx(0.405465, abs=1e-6)
    assert ndkls(ranked, equal).item() == pytest.approx(0.598603, abs=1e-6)
    assert max_skews(ranked, torch.tensor([0.75, 0.25], dtype=torch.float64), 4).item() == pytest.approx(0.0)
    assert max_skews(ranked, torch.tensor([0.25, 0.75], dtype=torch.float64), 4).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("k", [3, 7, 12])
def test_shares_of_the_top_are_those_of_fairlearn(k):
    """Being in the top k is a selection. Against the data's own shares, share in the top / share of the data = the
    group's selection rate / that of all; so MaxSkew is the logarithm of the largest ratio, and 0 where demographic
    parity holds."""
    fair = (
        torch.tensor([0, 0, 1] * (k // 3) + [1, 0, 0] * (8 - k // 3))[None]
        if k % 3 == 0
        else rankings(rows=1, items=24, groups=2)
    )
    for groups in torch.cat([rankings(items=24, groups=2), fair]):
        selected = (torch.arange(len(groups)) < k).int().numpy()
        frame = MetricFrame(
            metrics={"rate": selection_rate, "count": count},
            y_true=selected,
            y_pred=selected,
            sensitive_features=groups.numpy(),
        )
        shares = torch.tensor((frame.by_group["count"] / len(groups)).tolist(), dtype=torch.float64)
        skew = max_skews(groups[None], shares, k).item()
        assert skew == pytest.approx(math.log((frame.by_group["rate"] / frame.overall["rate"]).max()))
        parity = demographic_parity_ratio(selected, selected, sensitive_features=groups.numpy())
        assert (skew == pytest.approx(0)) == (parity == pytest.approx(1))
    assert k % 3 or skew == pytest.approx(0)


def test_the_embedded_people_come_with_a_caveat_and_others_with_none(tmp_path):
    assert "not a fairness claim" in caveat(open_images("emoji-people/test"))
    assert caveat(open_images("photos-mini/test")) == ""
