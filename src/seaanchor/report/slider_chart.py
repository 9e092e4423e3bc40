"""The figure of the slider: accuracies against the exponent t of a trained linear map."""

from seaanchor.plotting.palette import NEUTRAL, colour
from seaanchor.plotting.svg import plot, swatch
from seaanchor.report.charts import Figure, band
from seaanchor.report.measures import value_of
from seaanchor.report.runs import Run

SLIDER = {
    "clean": ("clean images", 0, "-"),
    "attacked": ("wrong word drawn (T)", 1, "-"),
    "attack_word": ("drawn word wins", 2, "--"),
    "two_way": ("object above drawn word", 3, ":"),
    "reading": ("reading a drawn word", 4, "-."),
    "gender": ("gender named rightly", 2, "-"),
    "activity": ("activity named rightly", 0, "-"),
}


def slider(run: Run) -> Figure | None:
    """What the exponent t of the trained linear map does; None for a run without a curve."""
    if run.steering is None:
        return None
    rows = sorted(run.steering.rows, key=lambda row: row.t)
    keys = [key for key in SLIDER if all(key in row.shares for row in rows)]
    if not keys:
        return None
    with plot(f"Accuracies against t, {run.label}") as (axes, done):
        for t in (0.0, 1.0):
            axes.axvline(t, color=NEUTRAL, lw=0.9, zorder=0)
        for key in keys:
            _, number, dash = SLIDER[key]
            values = [value_of(row.shares[key]) for row in rows]
            band(axes, [row.t for row in rows], values, colour(number), dash, None)
        called = [(row.t, 100 * row.predicted_man) for row in rows if row.predicted_man is not None]
        if called:
            axes.plot(*zip(*called, strict=True), ":", color=NEUTRAL)
            axes.axhline(50, color=NEUTRAL, lw=0.9, zorder=0)
        axes.set(xlabel="t, exponent of the map's singular values", ylabel="accuracy or rate, %", ylim=(-2, 102))
    legend = tuple((swatch(SLIDER[key][1], "line", SLIDER[key][2]), SLIDER[key][0]) for key in keys)
    legend += ((swatch(None, "line", ":"), "called a man"),) if called else ()
    note = "t = 0 is the pre-trained model, t = 1 the trained map."
    return Figure(f"{run.label} on {run.steering.data}", done[0], note, legend)
