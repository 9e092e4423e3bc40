"""Where gender is at chance and the activity still recognised, and whether retrieval is fairer there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from seaanchor.adapters.linear_map import decompose
from seaanchor.config.recipes import RECIPES
from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.steering_record import SteeringPoint
from seaanchor.steering.embeddings import SeenPeople
from seaanchor.steering.sweep import sweep_bias
from seaanchor.sweeps.arms import recipe_of
from studies.gender_study import fairness_gaps, neutral


def row(t: float, gender: float, activity: float, half: float = 0.07) -> SteeringPoint:
    """A point of a sweep."""
    return SteeringPoint(t, gender=Share(gender, gender - half, gender + half), activity=Share(activity))


def test_the_neutral_point_is_at_chance_and_keeps_the_activity():
    rows = [row(0, 0.7, 0.9), row(0.2, 0.55, 0.89), row(0.3, 0.51, 0.88), row(0.4, 0.5, 0.85), row(1, 0.3, 0.7)]
    assert neutral(rows).t == 0.3, "t = 0.4 is nearer to chance and costs too much"
    assert neutral(rows, activity_lost=0.1).t == 0.4


@pytest.mark.parametrize("rows", [[row(0, 0.7, 0.9), row(1, 0.3, 0.9)], [row(0, 0.7, 0.9), row(0.5, 0.5, 0.8)]])
def test_there_may_be_none(rows):
    assert neutral(rows) is None


def test_gaps_of_skew_are_those_of_the_sweep():
    generator = torch.Generator().manual_seed(0)
    gender_N = torch.tensor([0, 1] * 20)
    image_ND, caption_RGD, neutral_RD = (
        torch.randn(*shape, generator=generator) for shape in ((40, 6), (5, 2, 6), (5, 6))
    )
    seen = SeenPeople(image_ND + gender_N[:, None], caption_RGD, neutral_RD, torch.arange(40) % 5, gender_N)
    maps = [(decompose(torch.randn(6, 6, generator=generator)), t) for t in (0.5, 1.0)]
    found = fairness_gaps(seen, maps)
    for name, key in (("MaxSkew@10", "max_skew_at_10"), ("NDKL", "ndkl")):
        pairs = [sweep_bias(seen, spectrum, (0.0, t)) for spectrum, t in maps]
        start, end = ([row[i].retrieval["uniform"][key] for row in pairs] for i in (0, 1))
        assert found[name].mean == pytest.approx(50 * (sum(start) - sum(end)), abs=1e-9)
        assert found[name].low < found[name].mean < found[name].high
    assert fairness_gaps(seen, []) == {}


def test_the_published_slider_is_the_recipe_that_its_section_names():
    published = yaml.safe_load((Path(__file__).parents[2] / "docs" / "tables" / "slider.yaml").read_text())
    assert published["map"] == recipe_of(replace(RECIPES["dpo-linear-tiny"](), device="cpu"))
