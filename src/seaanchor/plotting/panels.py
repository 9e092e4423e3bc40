"""Figures of many runs, as SVG: fronts of two measures, and measures against a setting."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaanchor.plotting.files import save_figure
from seaanchor.plotting.palette import NEUTRAL, STYLE, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHAPES, ACROSS = "osD^vP*Xp", 3  # markers; panels a row


@dataclass(frozen=True)
class Series:
    """Points of one colour: x, y, and the ends of a range around y where there is one; joined by a line if `line`, from
    left to right, or with `path` in the order given; with `names` written beside the
    points, or `kinds` shown by the shape of the marker."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    line: bool = True
    marker: bool = True
    path: bool = False
    names: Sequence[str] | None = None
    kinds: Sequence[str] | None = None


def plot(
    series: Sequence[Series],
    path: Path,
    *,
    title: str,
    x: str,
    y: str,
    log: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> Path:
    """One panel; see `panels`."""
    return panels([(title, x, y, series)], path, log=log, marks=marks)


def panels(
    many: Sequence[tuple[str, str, str, Sequence[Series]]],
    path: Path,
    *,
    log: bool = False,
    marks: Sequence[tuple[float, str]] = (),
) -> Path:
    """Panels side by side, up to three a row, each (title, x label, y label, series); one legend to the right.

    Args:
        many: the panels.
        path: where the SVG goes; its folder is made.
        log: x on a logarithmic axis.
        marks: vertical lines with a word each.

    Returns:
        The path.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    colours = {
        label: colour(i) for i, label in enumerate(dict.fromkeys(s.label for *_, series in many for s in series))
    }
    kinds = list(dict.fromkeys(kind for *_, series in many for s in series for kind in s.kinds or ()))
    with plt.rc_context(STYLE | {"svg.fonttype": "path"}):
        columns = 2 if len(many) == 4 else min(len(many), ACROSS)
        rows = math.ceil(len(many) / columns)
        figure, grid = plt.subplots(
            rows, columns, figsize=(1.6 + 4.6 * columns, 3.9 * rows), layout="constrained", squeeze=False
        )
        for unused in grid.flat[len(many) :]:
            unused.set_axis_off()
        for axes, (title, x, y, series) in zip(grid.flat, many, strict=False):
            for one in series:
                _draw(axes, one, colours[one.label], kinds)
            for at, name in marks:
                _mark(axes, at, name)
            axes.set(title=title, xlabel=x, ylabel=y)
            if log:
                axes.set_xscale("log")
        for at, kind in enumerate(kinds):
            grid.flat[0].plot([], [], linestyle="none", color=NEUTRAL, marker=SHAPES[at % len(SHAPES)], label=kind)
        handles = {handle.get_label(): handle for axes in grid.flat for handle in axes.get_legend_handles_labels()[0]}
        figure.legend(list(handles.values()), list(handles), loc="outside right center")
        save_figure(figure, path, metadata={"Date": None})
        plt.close(figure)
    return path


def _mark(axes: "Axes", at: float, name: str) -> None:
    """A vertical line with a word at its foot."""
    axes.axvline(at, color=NEUTRAL, linewidth=0.8, zorder=0)
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (3, 4), "textcoords": "offset points"}
    axes.annotate(name, (at, 0), **place, fontsize=8)


def _draw(axes: "Axes", one: Series, ink: str, kinds: Sequence[str]) -> None:
    order = sorted(range(len(one.x)), key=lambda i: one.x[i]) if one.line and not one.path else range(len(one.x))
    x, y = [one.x[i] for i in order], [one.y[i] for i in order]
    if one.low is not None and one.high is not None:
        low, high = [one.low[i] for i in order], [one.high[i] for i in order]
        if one.line:
            axes.fill_between(x, low, high, color=ink, alpha=0.12, linewidth=0)
        else:
            below, above = ([abs(a - b) for a, b in zip(y, end, strict=True)] for end in (low, high))
            axes.errorbar(x, y, [below, above], fmt="none", color=ink, alpha=0.5)
    style: dict[str, Any] = {"color": ink, "linestyle": "-" if one.line else "none", "markersize": 5}
    if one.kinds is None:
        axes.plot(x, y, marker="o" if one.marker else "", label=one.label, **style)
    else:
        axes.plot([], [], marker="o", label=one.label, **style)
        for i, at in enumerate(order):
            axes.plot(
                x[i], y[i], **style | {"marker": SHAPES[kinds.index(one.kinds[at]) % len(SHAPES)], "markersize": 7}
            )
    for i, at in enumerate(order if one.names else ()):
        name = (one.names or ())[at]
        axes.annotate(name, (x[i], y[i]), xytext=(6, 4), textcoords="offset points", fontsize=8, color=ink)
