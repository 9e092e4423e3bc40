"""The figures of training: what the log of each run holds, over its steps."""

from collections.abc import Sequence
from typing import Any

from seaanchor.plotting.palette import NEUTRAL, colour, marker
from seaanchor.plotting.svg import plot
from seaanchor.report.charts import Figure
from seaanchor.report.runs import Run

Runs = Sequence[tuple[int, Run]]
"""Runs with their numbers, which decide colours."""


def training(runs: Runs) -> list[Figure]:
    """Clean distance, violation rate, multiplier and objective over the steps of each run, and accuracy on validation
    sets where it was measured.

    Runs of a linear map are not in the first two: the map may rotate both embeddings together, which moves every
    embedding and changes no answer.
    """
    logged = [(number, run) for number, run in runs if run.rows]
    towers = [(number, run) for number, run in logged if run.settings.adapter.kind != "linear"]
    figures = [
        _over_steps(
            towers,
            "clean_distance",
            "Distance of clean images from the reference",
            "relative squared distance",
            bounds=True,
            note="Mean of the batch. Dashed: ρ, the bound that the run is trained with or measured against.",
        ),
        _over_steps(
            towers,
            "violation_rate",
            "Violation rate",
            "share of the batch, %",
            scale=100.0,
            note="Share of clean images in the batch that are further from the reference than ρ.",
        ),
        _over_steps(
            logged, "kl", "KL to the reference's class distributions", "nats", note="Mean of the batch's clean images."
        ),
        _over_steps(logged, "orthogonality", "Map's distance from orthogonal", "‖WWᵀ − 1‖"),
        _over_steps(
            logged,
            "multiplier",
            "Multiplier λ",
            "λ",
            band=("multiplier_p10", "multiplier_p90"),
            note="Line: mean over the batch's images. Band: 10 % to 90 % of them.",
        ),
        *_objectives(logged),
    ]
    evaluated = [(number, run) for number, run in runs if run.evaluations]
    sets = sorted({name for _, run in evaluated for row in run.evaluations for name in row["eval"]})
    return [figure for figure in figures if figure] + [_validation(name, evaluated) for name in sets]


def _objectives(runs: Runs) -> list[Figure | None]:
    """A figure for every kind of objective: losses of different kinds cannot be compared."""
    figures = []
    for kind in dict.fromkeys(run.settings.objective.kind for _, run in runs):
        alike = [(number, run) for number, run in runs if run.settings.objective.kind == kind]
        keys = ("loss", "adversarial_loss")
        key = next((k for k in keys if all(any(k in row for row in run.rows) for _, run in alike)), None)
        if key is not None:
            note = "Mean over the batch's attacked images or preferences."
            figures.append(_over_steps(alike, key, f"Objective {kind}", "loss", note=note))
    return figures


def _over_steps(
    runs: Runs,
    key: str,
    title: str,
    unit: str,
    scale: float = 1.0,
    band: tuple[str, str] | None = None,
    bounds: bool = False,
    note: str = "",
) -> Figure | None:
    """A number of the log against the step, of the runs that have it; None where no run has.

    Args:
        runs: with their numbers.
        key: name in the log.
        title, unit, note: words of the figure.
        scale: what values are multiplied by.
        band: names of the ends of a band around it.
        bounds: whether ρ is drawn.
    """
    runs = [(number, run) for number, run in runs if any(key in row for row in run.rows)]
    if not runs:
        return None
    with plot(f"{title} over training") as (axes, done):
        for number, run in runs:
            rows = [row for row in run.rows if key in row and isinstance(row[key], int | float)]
            steps = [row["step"] for row in rows]
            if band and all(name in row for row in rows for name in band):
                low, high = ([scale * row[name] for row in rows] for name in band)
                axes.fill_between(steps, low, high, color=colour(number), alpha=0.16, lw=0)
            shape = marker(number) if len(rows) < 3 else None
            axes.plot(steps, [scale * row[key] for row in rows], color=colour(number), marker=shape, markersize=4.5)
        if bounds:
            _bounds(axes, runs)
        axes.set(xlabel="step", ylabel=unit)
        _whole_steps(axes)
        axes.set_ylim(-2 if scale == 100 else 0, 103 if scale == 100 else 1.05 * axes.get_ylim()[1])
    return Figure(title, done[0], note)


def _whole_steps(axes: Any) -> None:
    """Ticks at whole steps alone, also where there is one step."""
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)


def _bounds(axes: Any, runs: Runs) -> None:
    """Every ρ as a dashed line, in a run's colour where it is that run's alone."""
    for rho in sorted({row["rho"] for _, run in runs for row in run.rows if "rho" in row}):
        owners = [number for number, run in runs if any("rho" in row and row["rho"] == rho for row in run.rows)]
        ink = colour(owners[0]) if len(owners) == 1 and len(runs) > 1 else NEUTRAL
        axes.axhline(rho, color=ink, lw=1, ls="--")


def _validation(name: str, runs: Runs) -> Figure:
    with plot(f"Accuracy on {name} while training") as (axes, done):
        for number, run in runs:
            for key, dash in (
                ("clean", "-"),
                ("lettered", "-"),
                ("pgd", "--"),
                ("attacked", "--"),
                ("attack_word", ":"),
            ):
                rows = [
                    (row["step"], 100 * row["eval"][name][key])
                    for row in run.evaluations
                    if name in row["eval"] and key in row["eval"][name]
                ]
                if rows:
                    shape = marker(number) if len(rows) < 3 else None
                    axes.plot(*zip(*rows, strict=True), dash, color=colour(number), marker=shape, markersize=4.5)
        axes.set(xlabel="step", ylabel="top-1 accuracy, %", ylim=(0, None))
        _whole_steps(axes)
    note = (
        "Solid: images as they are. Dashed: attacked, by PGD at the training ε or by a drawn word. Dotted: "
        "the drawn word wins. "
        "A few images: a trend, not a result."
    )
    return Figure(f"{name} while training", done[0], note)
