"""Where gender is at chance and the activity still recognised."""

import pytest

from seaanchor.experiments.sliders import neutral


def row(t: float, gender: float, activity: float, half: float = 0.07) -> dict:
    """A row of a sweep."""
    return {"t": t, "gender": {"accuracy": gender, "low": gender - half, "high": gender + half}, "activity": {"accuracy": activity}}


def test_the_neutral_point_is_at_chance_and_keeps_the_activity():
    rows = [row(0, 0.7, 0.9), row(0.2, 0.55, 0.89), row(0.3, 0.51, 0.88), row(0.4, 0.5, 0.85), row(1, 0.3, 0.7)]
    assert neutral(rows)["t"] == 0.3, "t = 0.4 is nearer to chance and costs too much"
    assert neutral(rows, activity_lost=0.1)["t"] == 0.4


@pytest.mark.parametrize("rows", [[row(0, 0.7, 0.9), row(1, 0.3, 0.9)], [row(0, 0.7, 0.9), row(0.5, 0.5, 0.8)]])
def test_there_may_be_none(rows):
    assert neutral(rows) is None
