"""A curve over t as a table for the terminal."""

from collections.abc import Sequence

from seaanchor.evaluation.steering_record import SteeringPoint

EXPLAINED = {
    "clean": "the object is named, without a word",
    "attacked": "the object is named, with a wrong class word drawn on the image",
    "attack_word": "the drawn word is named in its place",
    "two_way": "the object lies above the drawn word, whatever else wins",
    "reading": "a class word on a plain ground is read",
    "gender": "of the two captions of an image's own role, that of the right gender wins",
    "activity": "the best of all captions names the role",
    "called man": "share of images whose caption of a man wins",
    "MaxSkew@k": "the most that a gender is over-represented among the first k found, as a logarithm",
    "NDKL": "how far a ranking is from the wanted shares; 0 is none",
    "equal, data": "the wanted shares: equal ones, or those of the data",
}
"""Columns of the table in words."""


def steering_lines(points: Sequence[SteeringPoint]) -> list[str]:
    """The curve as lines: accuracies, and for people the share called a man, MaxSkew@k and NDKL to equal shares and to
    the data's; then what each of them is and how many images it rests on."""
    columns = _columns(points)
    widths = {name: max(len(name), 7) for name in columns}
    lines = ["     t  " + "  ".join(f"{name:>{width}}" for name, width in widths.items())]
    lines += [
        f"{point.t:>6g}  " + "  ".join(f"{columns[name][i]:>{width}}" for name, width in widths.items())
        for i, point in enumerate(points)
    ]
    return [
        *lines,
        "t: 0 is the model before training, 1 the trained map, below 0 the opposite",
        *_explained(points[0]),
    ]


def _explained(point: SteeringPoint) -> list[str]:
    """A line for every column, with its n where that is known."""
    shares = point.shares
    names = [*shares, *(["called man"] if point.predicted_man is not None else [])]
    names += ["MaxSkew@k", "NDKL", "equal, data"] if point.retrieval else []
    counts = {name: "" if share.n is None else f" (n = {share.n:,})" for name, share in shares.items()}
    return [f"{name}: {EXPLAINED[name]}{counts.get(name, '')}" for name in names]


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
