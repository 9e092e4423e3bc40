"""The colours, markers and styles of all figures.

Figures have a transparent background, and every colour reads on white and on the dark page of a report: its contrast
is at least 3:1 with either. Neighbours in the order differ most for readers who do not see red and green apart; series
beyond the first few differ in marker or dash as well.
"""

from typing import Any

NEUTRAL = "#737d87"
"""Axes, labels, grids, and whatever belongs to no series."""

COLOURS = (
    "#1e78c3",  # blue
    "#d9620f",  # orange
    "#b0409a",  # magenta
    "#23a06a",  # green
    "#8b74e8",  # violet
    "#a67c00",  # ochre
    "#cf4a4a",  # red
    "#4c8f2f",  # leaf
    "#8a6d5a",  # brown
    "#3f93a8",  # cyan
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")

STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 10,
    "text.color": NEUTRAL,
    "text.parse_math": False,
    "axes.edgecolor": NEUTRAL,
    "axes.labelcolor": NEUTRAL,
    "axes.titlecolor": NEUTRAL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": NEUTRAL,
    "grid.alpha": 0.25,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
    "legend.frameon": False,
    "svg.hashsalt": "seaanchor",
}
"""matplotlib settings that every figure starts from."""


def colour(number: int | None) -> str:
    """Colour of the series of that number; the neutral one for None."""
    return NEUTRAL if number is None else COLOURS[number % len(COLOURS)]


def marker(number: int) -> str:
    """matplotlib's marker of the series of that number."""
    return MARKERS[number % len(MARKERS)]
