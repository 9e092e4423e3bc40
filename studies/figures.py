"""Declared panels become series of points."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import mean

from seaanchor.plotting.panels import Series, panels
from studies.declare import Design, Line, Panel, Profile, Results, Table, Trace
from studies.training_logs import trace
from studies.workspace import Workspace


def draw(design: Design, results: Results) -> None:
    """The figure of a design, as figure.svg in the workspace."""
    many = [one for panel in design.panels for one in _expanded(panel, results.workspace)]
    drawn = [(p.title, p.x_label, p.y_label, [_series(line, p, results) for line in p.lines]) for p in many]
    panels(drawn, results.workspace.output / "figure.svg", log=design.log)


def _expanded(panel: Panel, workspace: Workspace) -> Iterator[Panel]:
    """A panel, or its repetitions over data sets."""
    if not panel.each_set:
        yield panel
        return
    for label in [*([panel.photos] if panel.photos else []), *workspace.elsewhere()]:
        texts = {name: getattr(panel, name).replace("{set}", label) for name in ("title", "x_label", "y_label")}
        yield replace(panel, **texts, x=panel.x.replace("{set}", label), y=panel.y.replace("{set}", label))


def _series(line: Line | Trace | Profile, panel: Panel, results: Results) -> Series:
    if isinstance(line, Trace):
        return _trace(line, results.workspace)
    if isinstance(line, Profile):
        cells = [results.table[line.arm][title] for title in line.columns]
        y, low, high = ([100 * getattr(cell, end) for cell in cells] for end in ("mean", "low", "high"))
        return Series(line.arm, line.at, y, low, high)
    x, y, low, high = points(results.table, line.arms, panel.x or line.y or panel.y, line.y or panel.y)
    return Series(
        line.label,
        line.at or x,
        y,
        low if line.spread else None,
        high if line.spread else None,
        line=line.kind != "points",
        path=line.kind == "path",
        kinds=line.shapes,
    )


def points(
    table: Table, arms: Sequence[str], x: str, y: str
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Means in % of two columns, with the range of the second."""
    cells = [table[name] for name in arms]
    return (
        [100 * c[x].mean for c in cells],
        [100 * c[y].mean for c in cells],
        [100 * c[y].low for c in cells],
        [100 * c[y].high for c in cells],
    )


def _trace(line: Trace, workspace: Workspace) -> Series:
    curves = [trace(line.arm, seed, workspace, line.key) for seed in workspace.seeds]
    values = middle([[line.scale * v for v in curve[1]] for curve in curves])
    return Series(line.label, curves[0][0], *values, marker=False)


def middle(values: Sequence[Sequence[float]]) -> tuple[list[float], list[float], list[float]]:
    """Mean, smallest and largest of every column."""
    columns = list(zip(*values, strict=True))
    return [mean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns]
