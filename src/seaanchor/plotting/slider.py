"""The picture of a slider: accuracies, and for people the skew of retrieval, against t."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaanchor.plotting.files import save_figure
from seaanchor.plotting.palette import NEUTRAL, STYLE, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = {
    "clean": ("clean images", colour(0), "-"),
    "attacked": ("wrong word drawn", colour(1), "-"),
    "attack_word": ("drawn word wins", colour(2), "--"),
    "two_way": ("object above drawn word", colour(3), ":"),
    "reading": ("reading a drawn word", colour(4), "-."),
    "gender": ("gender named rightly", colour(2), "-"),
    "activity": ("activity named rightly", colour(0), "-"),
}
MARKS_UP_TO = 25  # values of t; more of them make a band of dots


def steering_picture(rows: Sequence[dict[str, Any]], path: Path, caveat: str = "") -> None:
    """Accuracies against t, with 95 % intervals as bands, in one PNG; of people also the share called a man, and
    MaxSkew@k and NDKL below.

    Args:
        rows: of `steering.json`.
        path: where to write; the folder exists.
        caveat: a line below the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = sorted(rows, key=lambda row: row["t"])
    ts, people = [row["t"] for row in rows], "retrieval" in rows[0]
    marker = "o" if len(ts) <= MARKS_UP_TO else None
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1 + people, squeeze=False, sharex=True, figsize=(7.8, 6.4 if people else 4.4), layout="constrained"
        )
        axes = panels[0, 0]
        _shares(axes, rows, ts, marker)
        if people:
            axes.plot(ts, [100 * row["predicted_man"] for row in rows], ":", color=NEUTRAL, label="called a man")
            axes.axhline(50, color=NEUTRAL, linewidth=0.8, linestyle="--", zorder=0)
            _skew(panels[1, 0], rows, ts, marker)
        axes.set(title="What the slider does", ylabel="accuracy or rate, %", ylim=(-2, 102))
        for panel in panels[:, 0]:
            _mark_ends(panel, named=panel is axes)
            panel.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        panels[-1, 0].set_xlabel("t (power of the map's singular values)" + (f"\n\n{caveat}" if caveat else ""))
        save_figure(figure, path, dpi=140)
        plt.close(figure)


def _shares(axes: "Axes", rows: Sequence[dict[str, Any]], ts: Sequence[float], marker: str | None) -> None:
    """What was measured, each with its 95 % interval as a band."""
    for key, (label, ink, dash) in LINES.items():
        if key in rows[0]:
            low, high = ([100 * row[key][end] for row in rows] for end in ("low", "high"))
            axes.fill_between(ts, low, high, color=ink, alpha=0.12, linewidth=0)
            shares = [100 * row[key]["accuracy"] for row in rows]
            axes.plot(ts, shares, dash, color=ink, label=label, marker=marker, markersize=3.5)


def _mark_ends(axes: "Axes", named: bool) -> None:
    """Vertical lines where t is the pre-trained model and where it is the trained map."""
    place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "xytext": (3, -10), "textcoords": "offset points"}
    for t, name in ((0, "pre-trained"), (1, "trained map")):
        axes.axvline(t, color=NEUTRAL, linewidth=0.8, zorder=0)
        if named:
            axes.annotate(name, (t, 1), **place, fontsize=8)


def _skew(axes: "Axes", rows: Sequence[dict[str, Any]], ts: Sequence[float], marker: str | None) -> None:
    """Skew of retrieval by neutral prompts, against the data's own shares where those are not equal."""
    for desired, dash in (("uniform", "-"), ("dataset", "--")):
        if desired == "dataset" and rows[0]["retrieval"]["dataset"] == rows[0]["retrieval"]["uniform"]:
            continue
        shares = "equal shares" if desired == "uniform" else "shares of the data"
        for key, ink in zip(rows[0]["retrieval"][desired], (colour(1), colour(4)), strict=True):
            name = "NDKL" if key == "ndkl" else f"MaxSkew@{key.rsplit('_', 1)[-1]}"
            values = [row["retrieval"][desired][key] for row in rows]
            axes.plot(ts, values, dash, color=ink, label=f"{name}\n(to {shares})", marker=marker, markersize=3.5)
    axes.set(ylabel="skew of retrieval, nats")
    axes.set_ylim(bottom=0)
