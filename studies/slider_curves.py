"""Curves over the slider t of trained linear maps (arXiv 2411.08923), one for every seed, as tables and figures."""

from collections.abc import Callable, Mapping
from statistics import mean

from seaanchor.adapters.linear_map import Spectrum, decompose
from seaanchor.config.schema import RunConfig
from seaanchor.evaluation.steering_record import SteeringPoint
from seaanchor.export.trained import read_map
from seaanchor.plotting.panels import Series
from seaanchor.sweeps.engine import Row
from seaanchor.utils.checkpoint import write_atomic
from studies.pools import word_run
from studies.workspace import Workspace

PAPER = "arXiv 2411.08923"
TS = tuple(round(-2 + 0.05 * i, 2) for i in range(81))
SHOWN = (-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
MARKS = ((0.0, "pre-trained"), (1.0, "trained map"))
T_LABEL = "t, power of the singular values"

Curves = list[list[SteeringPoint]]
"""For every seed the points of a sweep over t."""

Read = Callable[[SteeringPoint], float]
"""A number of a point."""

Columns = Mapping[str, Read]
"""Title → what is read from a point."""


def spectra_of(config: RunConfig, workspace: Workspace) -> list[Spectrum]:
    """The map of every seed, decomposed."""
    workspace.keep("map", config)
    return [decompose(read_map(word_run(config, seed, workspace))) for seed in workspace.seeds]


def percent(key: str) -> Read:
    """A reader of a share in %."""
    return lambda point: 100 * point.shares[key].accuracy


def _over_seeds(curves: Curves, i: int, read: Read) -> tuple[float, float, float]:
    values = [read(points[i]) for points in curves]
    return mean(values), min(values), max(values)


def table_of(curves: Curves, columns: Columns, workspace: Workspace) -> str:
    """Markdown at a few t; CSV at all."""
    lines = [f"| t | {' | '.join(columns)} |", "|" + " --- |" * (len(columns) + 1)]
    csv = [",".join(["t", *(f"{name},{name} min,{name} max" for name in columns)])]
    for i, t in enumerate(TS):
        cells = {name: _over_seeds(curves, i, read) for name, read in columns.items()}
        csv.append(",".join([f"{t:g}", *(f"{m:.6g},{low:.6g},{high:.6g}" for m, low, high in cells.values())]))
        if t in SHOWN:
            shown = [
                f"{m:.1f} ({low:.1f} to {high:.1f})" if f"{low:.1f}" != f"{high:.1f}" else f"{m:.1f}"
                for m, low, high in cells.values()
            ]
            lines.append(f"| {t:g} | {' | '.join(shown)} |")
    write_atomic(workspace.output / "table.csv", "\n".join(csv) + "\n")
    return "\n".join(lines) + "\n"


def series_of(curves: Curves, columns: Columns) -> list[Series]:
    """A line for every column, with its range over seeds."""
    found = []
    for name, read in columns.items():
        cells = [_over_seeds(curves, i, read) for i in range(len(TS))]
        middle, low, high = (list(values) for values in zip(*cells, strict=True))
        found.append(Series(name, TS, middle, low, high, marker=False))
    return found


def rows_of(curves: Curves) -> list[Row]:
    """The points of all curves as arms named by their t."""
    return [Row(f"{point.t:g}", seed, "", point.shares, {}) for seed, points in enumerate(curves) for point in points]
