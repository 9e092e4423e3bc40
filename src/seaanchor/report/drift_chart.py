"""The figure of drift: how far clean images have moved from the reference."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seaanchor.evaluation.suite_results import Drift
from seaanchor.plotting.palette import NEUTRAL, colour, marker
from seaanchor.plotting.svg import plot
from seaanchor.report.charts import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def drift_figure(dataset: str, found: Sequence[tuple[int, Drift]], bounds: Sequence[float]) -> Figure | None:
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
            _draw_bound(axes, rho)
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


def _draw_bound(axes: "Axes", rho: float) -> None:
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
