"""What the page's figures share: the figure and its caption, the models of a data set, whiskers and bands.

Shares are drawn in per cent; whiskers and bands are 95 % intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seaanchor.evaluation.results import same_radius
from seaanchor.plotting.svg import Chart
from seaanchor.report.measures import ATTACKS, Measure, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLEAN = ("clean", "Clean images", "top-1")


@dataclass(frozen=True)
class Figure:
    """A chart with its title, a line below it, and a legend of (swatch, name) for what the page's own legend does not
    name."""

    title: str
    chart: Chart
    note: str = ""
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Series:
    """A model on one data set: its number, which decides colour and marker, its name, and its measures."""

    number: int
    label: str
    measures: tuple[Measure, ...]

    def find(self, key: tuple[str, str, str]) -> Measure | None:
        """The measure of that key."""
        return next((m for m in self.measures if m.key == key), None)


def shared_radii(series: Sequence[Series]) -> list[Measure]:
    """Robust accuracies that every model of the data set has, of the strongest attack that they share, by radius."""
    shared = (
        set.intersection(*({m.key for m in s.measures if m.suite == "robust"} for s in series)) if series else set()
    )
    rows = [m for m in series[0].measures if m.key in shared] if series else []
    strongest = min((list(ATTACKS).index(m.attack) if m.attack in ATTACKS else len(ATTACKS) for m in rows), default=0)
    rows = [m for m in rows if (list(ATTACKS).index(m.attack) if m.attack in ATTACKS else len(ATTACKS)) == strongest]
    return sorted((m for m in rows if m.group == rows[0].group), key=lambda m: m.epsilon)


def focus(rows: Sequence[Measure], trained: float | None) -> Measure | None:
    """The radius to compare models at: that of training if it was evaluated, else the smallest."""
    positive = [m for m in rows if m.epsilon > 0]
    return next(
        (m for m in positive if trained is not None and same_radius(m.epsilon, trained)),
        positive[0] if positive else None,
    )


def whisker(value: Value) -> list[list[float]]:
    """The lengths below and above a value, in per cent, as matplotlib takes them."""
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    return [[100 * max(0.0, value.value - low)], [100 * max(0.0, high - value.value)]]


def band(axes: "Axes", xs: Sequence[float], values: Sequence[Value], ink: str, dash: str, shape: str | None) -> None:
    """A line with its 95 % interval as a band; values in per cent."""
    ends = [(v.value if v.low is None else v.low, v.value if v.high is None else v.high) for v in values]
    axes.fill_between(xs, [100 * low for low, _ in ends], [100 * high for _, high in ends], color=ink, alpha=0.13, lw=0)
    axes.plot(xs, [100 * v.value for v in values], dash, color=ink, marker=shape, markersize=4.5)
