"""The page's figures: trade-offs, accuracy against radius, and drift. Each has its caption.

Shares are drawn in per cent; whiskers and bands are 95 % intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seaanchor.evaluation.results import same_radius
from seaanchor.evaluation.suite_results import Drift
from seaanchor.plotting.palette import NEUTRAL, colour, marker
from seaanchor.plotting.svg import Chart, plot
from seaanchor.report.measures import ATTACKS, Measure, Value


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


FEW = 2  # models whose bands can be distinguished
CLEAN = ("clean", "Clean images", "top-1")


def _whisker(value: Value) -> list[list[float]]:
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    return [[100 * max(0.0, value.value - low)], [100 * max(0.0, high - value.value)]]


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


def _lead(axes: Any, start: tuple[Value, Value], end: tuple[Value, Value], ink: str) -> None:
    """A thin line from the edge of the reference's hollow marker to a model."""
    line = {"arrowstyle": "-", "shrinkA": 4.5, "shrinkB": 0, "color": ink, "lw": 0.9, "alpha": 0.7}
    there, here = ([100 * x.value, 100 * y.value] for x, y in (end, start))
    axes.annotate("", there, xytext=here, arrowprops=line)


def _point(axes: Any, x: Value, y: Value, ink: str, shape: str, hollow: bool = False) -> None:
    axes.errorbar(
        100 * x.value,
        100 * y.value,
        xerr=_whisker(x),
        yerr=_whisker(y),
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


def _widen(axes: Any, least: float = 10.0) -> None:
    """At least ten points to see on either axis, inside 0 to 100: a small difference must not look like a large one."""
    for get, put in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
        low, high = get()
        grow = max(0.0, least - (high - low)) / 2
        put(max(-3.0, low - grow), min(103.0, high + grow))


def radius_curve(dataset: str, series: Sequence[Series], constant: float | None) -> Figure | None:
    """Accuracy against the radius, 0 being clean; the reference dashed. None with fewer than one radius."""
    rows = shared_radii(series)
    if not rows or any(s.find(CLEAN) is None for s in series):
        return None
    euclidean = rows[0].group.endswith("ℓ2")
    scale = 1 if euclidean else 255
    keys = [CLEAN, *(m.key for m in rows if m.epsilon > 0)]
    xs = [0.0, *(scale * m.epsilon for m in rows if m.epsilon > 0)]
    with plot(f"Accuracy against the radius of the attack on {dataset}") as (axes, done):
        if constant is not None:
            axes.axhline(100 * constant, color=NEUTRAL, lw=1, ls=":")
            axes.annotate(
                "constant answer",
                (0, 100 * constant),
                xycoords=("axes fraction", "data"),
                xytext=(4, 3),
                textcoords="offset points",
                color=NEUTRAL,
                fontsize=8.5,
            )
        first = [s.find(key) for s in series[:1] for key in keys]
        show = band if len(series) <= FEW else _bars  # many bands hide each other
        if all(m and m.reference for m in first):
            show(axes, xs, [m.reference for m in first if m and m.reference], NEUTRAL, "--", None)
        for i, s in enumerate(series):
            aside = 0.0 if show is band else 0.012 * max(xs) * (i - (len(series) - 1) / 2)
            show(
                axes,
                [x + aside for x in xs],
                [m.value for key in keys if (m := s.find(key))],
                colour(s.number),
                "-",
                marker(s.number),
            )
        axes.set(
            xlabel="ε (ℓ2)" if euclidean else "ε, 255ths of the pixel range (ℓ∞)",
            ylabel="top-1 accuracy, %",
            ylim=(-2, None),
        )
        axes.set_xticks(xs)
        axes.set_xticklabels([f"{x:.3g}" for x in xs])
    return Figure(dataset, done[0], f"{rows[0].group}. ε = 0 is the clean image.")


def band(axes: Any, xs: Sequence[float], values: Sequence[Value], ink: str, dash: str, shape: str | None) -> None:
    """A line with its 95 % interval as a band; values in per cent."""
    ends = [(v.value if v.low is None else v.low, v.value if v.high is None else v.high) for v in values]
    axes.fill_between(xs, [100 * low for low, _ in ends], [100 * high for _, high in ends], color=ink, alpha=0.13, lw=0)
    axes.plot(xs, [100 * v.value for v in values], dash, color=ink, marker=shape, markersize=4.5)


def _bars(axes: Any, xs: Sequence[float], values: Sequence[Value], ink: str, dash: str, shape: str | None) -> None:
    whiskers = [[_whisker(v)[end][0] for v in values] for end in (0, 1)]
    axes.errorbar(xs, [100 * v.value for v in values], yerr=whiskers, fmt="none", color=ink, elinewidth=0.9, alpha=0.8)
    axes.plot(xs, [100 * v.value for v in values], dash, color=ink, marker=shape, markersize=5)


def drift(dataset: str, found: Sequence[tuple[int, Drift]], bounds: Sequence[float]) -> Figure | None:
    """How far clean images have moved, by their rank, on a logarithmic scale; `found` holds each model's drift,
    `bounds` every ρ.

    Results of the first format have no deciles: median, 90 % and largest are drawn as points.
    """
    curves = [(number, *_curve(values)) for number, values in found]
    least = min((y for _, _, ys in curves for y in ys if y > 0), default=None)
    if least is None:
        return None
    with plot(f"Distance of clean images from the reference on {dataset}") as (axes, done):
        for number, shares, distances in curves:
            dash = "-" if len(distances) > 3 else "none"
            axes.plot(
                shares,
                [max(y, least) for y in distances],
                ls=dash,
                color=colour(number),
                marker=marker(number),
                markersize=4.5,
            )
        axes.set_yscale("log")
        for rho in sorted(set(bounds)):
            axes.axhline(rho, color=NEUTRAL, lw=1, ls="--")
            axes.annotate(
                f"ρ = {rho:g}",
                (1, rho),
                xycoords=("axes fraction", "data"),
                xytext=(-3, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
            )
        axes.set(xlabel="share of images that moved no further, %", ylabel="relative squared distance", xlim=(-2, 102))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        axes.tick_params(axis="y", which="minor", labelsize=9, width=0.5)
    return Figure(dataset, done[0])


def _curve(outcome: Drift) -> tuple[list[float], list[float]]:
    """Shares of images in per cent, and the distances that they do not exceed."""
    deciles = outcome.deciles
    if deciles:
        return [100 * i / (len(deciles) - 1) for i in range(len(deciles))], list(deciles)
    return [50.0, 90.0, 100.0], [outcome.distance.p50, outcome.distance.p90, outcome.distance.max]


__all__ = [
    "Figure",
    "Series",
    "drift",
    "focus",
    "radius_curve",
    "shared_radii",
    "trade_off",
]
