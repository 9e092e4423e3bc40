"""The curve as text: a column for what was measured, a line for every t, and what the columns are."""

from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.steering_record import SHARES, SteeringPoint
from seaanchor.steering.table import steering_lines


def test_a_column_for_each_share_that_was_measured():
    points = [SteeringPoint(t, attacked=Share(0.25 + 0.5 * t, n=1200), reading=Share(0.5)) for t in (0.0, 0.5)]
    table, said = steering_lines(points)[:3], steering_lines(points)[3:]
    assert [line.split() for line in table] == [
        ["t", "attacked", "reading"],
        ["0", "25.0%", "50.0%"],
        ["0.5", "50.0%", "50.0%"],
    ]
    assert [line.partition(":")[0] for line in said] == ["t", "attacked", "reading"]
    assert said[1].endswith("(n = 1,200)") and "0 is the model before training" in said[0]


def test_every_column_is_explained():
    found = {"uniform": {"max_skew_at_10": 0.1, "ndkl": 0.2}, "dataset": {"max_skew_at_10": 0.1, "ndkl": 0.2}}
    point = SteeringPoint(1.0, **{name: Share(0.5, n=7) for name in SHARES}, predicted_man=0.5, retrieval=found)
    said = [line.partition(":")[0] for line in steering_lines([point])[2:]]
    assert said == ["t", *SHARES, "called man", "MaxSkew@k", "NDKL", "equal, data"]
