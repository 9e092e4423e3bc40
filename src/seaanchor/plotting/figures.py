"""Pictures of runs, as PNG and SVG: clean against robust accuracy, and the constraint over training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaanchor.plotting.files import save_figure
from seaanchor.plotting.palette import STYLE, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"base": colour(None), "fare": colour(1), "lore": colour(0)}


@dataclass(frozen=True)
class Point:
    """A model in the plane of clean and robust accuracy, both in [0, 1].

    Attributes:
        label: the text beside it.
        family: `base`, `fare` or `lore`; decides the colour.
        long: a filled marker for a full-length run, an open one for a short run.
    """

    label: str
    family: str
    clean: float
    robust: float
    long: bool = True


def quickstart_picture(
    points: Sequence[Point], runs: dict[str, list[dict[str, Any]]], radius: str, rho: float, path: Path
) -> None:
    """Three panels in one PNG: accuracies, violation rate over steps, multiplier over steps.

    Args:
        points: the models.
        runs: family → rows of its metrics.jsonl.
        radius: ε of the robust accuracy, as text.
        rho: of the constraint.
        path: where to write; the folder exists.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(STYLE):
        figure, (plane, violation, multiplier) = plt.subplots(
            1, 3, figsize=(13, 4.2), width_ratios=(1.5, 1, 1), layout="constrained"
        )
        _plane(plane, points, radius)
        _violation(violation, runs, rho)
        _multiplier(multiplier, runs)
        save_figure(figure, path, dpi=140)
        plt.close(figure)


def _violation(axes: "Axes", runs: dict[str, list[dict[str, Any]]], rho: float) -> None:
    for family, rows in runs.items():
        steps, shares = [row["step"] for row in rows], [100 * row["violation_rate"] for row in rows]
        axes.plot(steps, shares, color=COLOURS[family], label=family.upper())
    axes.set(
        title=f"Clean images further than ρ = {rho:g} away", xlabel="step", ylabel="share of images, %", ylim=(-3, 103)
    )
    axes.legend()


def _multiplier(axes: "Axes", runs: dict[str, list[dict[str, Any]]]) -> None:
    for family, rows in runs.items():
        if "multiplier" in rows[-1]:
            steps, ink = [row["step"] for row in rows], COLOURS[family]
            low, high = ([row[f"multiplier_{q}"] for row in rows] for q in ("p10", "p90"))
            axes.fill_between(steps, low, high, color=ink, alpha=0.2, label="10 % to 90 % of images", linewidth=0)
            axes.plot(steps, [row["multiplier"] for row in rows], color=ink, label="mean")
    axes.set(title="LORE's multiplier λ", xlabel="step", ylabel="λ")
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.legend()


def _plane(axes: "Axes", points: Sequence[Point], radius: str) -> None:
    for point in points:
        ink = COLOURS[point.family]
        axes.scatter(
            100 * point.clean,
            100 * point.robust,
            s=90,
            color=ink if point.long else "none",
            edgecolors=ink,
            linewidths=2,
            zorder=3,
            clip_on=False,
        )
    low, high = min(point.clean for point in points) - 0.06, max(point.clean for point in points) + 0.06
    for point, (x, y) in zip(points, _label_spots(points), strict=True):
        side = "right" if point.clean < (low + high) / 2 else "left"  # labels point outwards
        axes.annotate(
            point.label,
            (100 * x, 100 * y),
            xytext=(-9 if side == "right" else 9, 0),
            textcoords="offset points",
            ha=side,
            va="center",
        )
    axes.set(
        title="What robustness costs",
        xlabel="clean top-1 accuracy, %",
        ylabel=f"top-1 under APGD-CE at ε = {radius}, %",
    )
    axes.set_xlim(100 * low, 100 * high)
    axes.margins(y=0.15)


def _label_spots(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Where each label goes: at its point, moved up where it would lie on another's."""
    height = 0.05 * max(0.2, max(p.robust for p in points) - min(p.robust for p in points)) * 1.4
    spots: dict[int, tuple[float, float]] = {}
    for i in sorted(range(len(points)), key=lambda i: points[i].robust):
        y = points[i].robust
        for x_other, y_other in spots.values():
            if abs(x_other - points[i].clean) < 0.2 and abs(y_other - y) < height:
                y = y_other + height
        spots[i] = (points[i].clean, y)
    return [spots[i] for i in range(len(points))]
