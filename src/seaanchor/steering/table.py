"""A curve over t as a table for the terminal."""

from collections.abc import Sequence

from seaanchor.evaluation.steering_record import SteeringPoint


def steering_lines(points: Sequence[SteeringPoint]) -> list[str]:
    """The curve as lines: accuracies, and for people the share called a man, MaxSkew@k and NDKL to equal shares and to
    the data's."""
    columns = _columns(points)
    widths = {name: max(len(name), 7) for name in columns}
    lines = ["     t  " + "  ".join(f"{name:>{width}}" for name, width in widths.items())]
    return lines + [
        f"{point.t:>6g}  " + "  ".join(f"{columns[name][i]:>{width}}" for name, width in widths.items())
        for i, point in enumerate(points)
    ]


def _columns(points: Sequence[SteeringPoint]) -> dict[str, list[str]]:
    """Title → the text of every point, for what was measured."""
    first = points[0]
    columns = {name: [f"{point.shares[name].accuracy:.1%}" for point in points] for name in first.shares}
    if first.predicted_man is not None:
        columns["called man"] = [f"{point.predicted_man:.1%}" for point in points]
    for desired, found in first.retrieval.items():
        for key in found:
            name = "NDKL" if key == "ndkl" else f"MaxSkew@{key.rsplit('_', 1)[-1]}"
            columns[f"{name}, {'equal' if desired == 'uniform' else 'data'}"] = [
                f"{point.retrieval[desired][key]:.3f}" for point in points
            ]
    return columns
