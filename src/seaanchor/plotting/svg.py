"""The charts of a report: SVG images as data addresses, and small inline SVG marks for legends."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from seaanchor.errors import printable
from seaanchor.plotting.palette import MARKERS, STYLE, colour, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.0, 2.8  # inches
FONTS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'Liberation Sans', Arial, sans-serif"
"""The page's fonts, which the text of a chart is shown in; matplotlib lays it out in its own, wider one."""

CHART_STYLE: dict[str, Any] = STYLE | {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "grid.linewidth": 0.7,
    "axes.linewidth": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Chart:
    """A finished picture.

    Attributes:
        address: the SVG as a data address.
        described: what a screen reader says in the picture's place.
    """

    address: str
    described: str


@contextmanager
def plot(described: str) -> Iterator[tuple["Axes", list[Chart]]]:
    """Axes to draw on, and a list that holds the finished chart afterwards.

    Args:
        described: what a screen reader says in the picture's place.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    done: list[Chart] = []
    with plt.rc_context(CHART_STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
        try:
            yield axes, done
            done.append(Chart(_address(figure, described), described))
        finally:
            plt.close(figure)


def _address(figure: "Figure", described: str) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Title": printable(described), "Date": None, "Creator": None})
    font = f"text {{font-family: {FONTS} !important}}"
    svg = buffer.getvalue().replace(b"</style>", f"{font}</style>".encode(), 1)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def swatch(number: int | None, kind: str = "marker", dash: str = "-") -> str:
    """A small SVG for a legend: a model's marker (None: the reference's), or a line of its colour."""
    ink = colour(number)
    if kind == "line":
        body = f'<path d="M1 6H23" fill="none" stroke="{ink}" stroke-width="2.2"{_DASHES[dash]}/>'
        return f'<svg class="swatch" viewBox="0 0 24 12" width="24" height="12" aria-hidden="true">{body}</svg>'
    if number is None:
        body = f'<circle cx="6" cy="6" r="4" fill="none" stroke="{ink}" stroke-width="1.8"/>'
    else:
        body = f'<path d="{_SHAPES[marker(number)]}" fill="{ink}"/>'
    return f'<svg class="swatch" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">{body}</svg>'


_DASHES = {
    "-": "",
    "--": ' stroke-dasharray="5 3"',
    ":": ' stroke-dasharray="1.5 3"',
    "-.": ' stroke-dasharray="6 2.5 1.5 2.5"',
}
_SHAPES = dict(
    zip(
        MARKERS,
        (
            "M6 1.5a4.5 4.5 0 1 0 .01 0z",
            "M2 2h8v8H2z",
            "M6 .8L11.2 6 6 11.2.8 6z",
            "M6 1L11 10.5H1z",
            "M6 11L1 1.5h10z",
            "M4.2 1h3.6v3.2H11v3.6H7.8V11H4.2V7.8H1V4.2h3.2z",
            "M3.2 1L6 3.8 8.8 1 11 3.2 8.2 6 11 8.8 8.8 11 6 8.2 3.2 11 1 8.8 3.8 6 1 3.2z",
            "M6 .8l4.5 2.6v5.2L6 11.2 1.5 8.6V3.4z",
        ),
        strict=True,
    )
)
