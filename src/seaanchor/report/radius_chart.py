"""The figure of accuracy against the radius of the attack."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seaanchor.plotting.palette import NEUTRAL, colour, marker
from seaanchor.plotting.svg import plot
from seaanchor.report.charts import CLEAN, Figure, Series, band, shared_radii, whisker
from seaanchor.report.measures import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 2  # models whose bands can be distinguished


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
            _draw_constant(axes, 100 * constant)
        _draw_models(axes, xs, keys, series)
        axes.set(
            xlabel="ε (ℓ2)" if euclidean else "ε, 255ths of the pixel range (ℓ∞)",
            ylabel="top-1 accuracy, %",
            ylim=(-2, None),
        )
        axes.set_xticks(xs)
        axes.set_xticklabels([f"{x:.3g}" for x in xs])
    return Figure(dataset, done[0], f"{rows[0].group}. ε = 0 is the clean image.")


def _draw_constant(axes: "Axes", accuracy: float) -> None:
    """The accuracy, in per cent, of one answer to every image."""
    axes.axhline(accuracy, color=NEUTRAL, lw=1, ls=":")
    axes.annotate(
        "constant answer",
        (0, accuracy),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        color=NEUTRAL,
        fontsize=8.5,
    )


def _draw_models(
    axes: "Axes", xs: Sequence[float], keys: Sequence[tuple[str, str, str]], series: Sequence[Series]
) -> None:
    """A line for the reference of the first model, and one for each model; many are set a little apart."""
    first = [s.find(key) for s in series[:1] for key in keys]
    show = band if len(series) <= FEW else _bars  # many bands hide each other
    if all(m and m.reference for m in first):
        show(axes, xs, [m.reference for m in first if m and m.reference], NEUTRAL, "--", None)
    for i, s in enumerate(series):
        aside = 0.0 if show is band else 0.012 * max(xs) * (i - (len(series) - 1) / 2)
        values = [m.value for key in keys if (m := s.find(key))]
        show(axes, [x + aside for x in xs], values, colour(s.number), "-", marker(s.number))


def _bars(axes: "Axes", xs: Sequence[float], values: Sequence[Value], ink: str, dash: str, shape: str | None) -> None:
    whiskers = [[whisker(v)[end][0] for v in values] for end in (0, 1)]
    axes.errorbar(xs, [100 * v.value for v in values], yerr=whiskers, fmt="none", color=ink, elinewidth=0.9, alpha=0.8)
    axes.plot(xs, [100 * v.value for v in values], dash, color=ink, marker=shape, markersize=5)
