"""The curve as text: a column for what was measured, a line for every t."""

from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.steering_record import SteeringPoint
from seaanchor.steering.table import steering_lines


def test_a_column_for_each_share_that_was_measured():
    points = [SteeringPoint(t, attacked=Share(0.25 + 0.5 * t), reading=Share(0.5)) for t in (0.0, 0.5)]
    assert [line.split() for line in steering_lines(points)] == [
        ["t", "attacked", "reading"],
        ["0", "25.0%", "50.0%"],
        ["0.5", "50.0%", "50.0%"],
    ]
