"""The figure of a trade-off: clean accuracy against another accuracy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seaanchor.plotting.palette import NEUTRAL, colour, marker
from seaanchor.plotting.svg import plot
from seaanchor.report.charts import CLEAN, Figure, Series, whisker
from seaanchor.report.measures import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def trade_off(dataset: str, series: Sequence[Series], key: tuple[str, str, str], name: str) -> Figure | None:
    """Clean accuracy against another accuracy; a thin line leads from the reference to each model. None where nothing
    has both."""
    pairs = [(s, s.find(CLEAN), s.find(key)) for s in series]
    whole = [(s, clean, other) for s, clean, other in pairs if clean and other]
    if not whole:
        return None
    with plot(f"Clean accuracy against {name} on {dataset}") as (axes, done):
        drawn = set()
        for s, clean, other in whole:
            x, y = clean.reference, other.reference
            if x and y:
                _lead(axes, (x, y), (clean.value, other.value), colour(s.number))
                if (x.value, y.value) not in drawn:
                    drawn.add((x.value, y.value))
                    _point(axes, x, y, NEUTRAL, "o", hollow=True)
            _point(axes, clean.value, other.value, colour(s.number), marker(s.number))
        axes.set(xlabel="clean top-1 accuracy, %", ylabel=f"{name}, %")
        axes.margins(0.12)
        _widen(axes)
    return Figure(dataset, done[0])


def _lead(axes: "Axes", start: tuple[Value, Value], end: tuple[Value, Value], ink: str) -> None:
    """A thin line from the edge of the reference's hollow marker to a model."""
    line = {"arrowstyle": "-", "shrinkA": 4.5, "shrinkB": 0, "color": ink, "lw": 0.9, "alpha": 0.7}
    there, here = ((100 * x.value, 100 * y.value) for x, y in (end, start))
    axes.annotate("", there, xytext=here, arrowprops=line)


def _point(axes: "Axes", x: Value, y: Value, ink: str, shape: str, hollow: bool = False) -> None:
    axes.errorbar(
        100 * x.value,
        100 * y.value,
        xerr=whisker(x),
        yerr=whisker(y),
        color=ink,
        elinewidth=0.9,
        alpha=0.8,
        zorder=2,
        fmt="none",
    )
    face = "none" if hollow else ink
    axes.plot(
        100 * x.value,
        100 * y.value,
        shape,
        markersize=6.5,
        markerfacecolor=face,
        markeredgecolor=ink,
        markeredgewidth=1.6,
        zorder=3,
        ls="none",
    )


def _widen(axes: "Axes", least: float = 10.0) -> None:
    """At least ten points to see on either axis, inside 0 to 100: a small difference must not look like a large one."""
    for get, put in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
        low, high = get()
        grow = max(0.0, least - (high - low)) / 2
        put(max(-3.0, low - grow), min(103.0, high + grow))
