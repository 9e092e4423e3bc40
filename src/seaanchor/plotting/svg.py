"""matplotlib figures as inline SVG whose colours and fonts are the page's own, so that they follow light, dark and
print."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WIDTH, HEIGHT = 4.6, 3.1  # inches; 331 by 223 units of the picture
COLOURS = tuple(f"s{i}" for i in range(1, 9))
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "h")
_NAMES = ("ink", "muted", "rule", "page", "loss", *COLOURS)
STAND_IN = {name: f"#1234{i:02x}" for i, name in enumerate(_NAMES)}
"""Colour names of the page's style sheet → colours that matplotlib draws with and that are replaced afterwards."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "seaanchor",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": STAND_IN["rule"],
    "grid.linewidth": 0.7,
    "axes.edgecolor": STAND_IN["muted"],
    "axes.linewidth": 0.7,
    "axes.labelcolor": STAND_IN["ink"],
    "xtick.color": STAND_IN["muted"],
    "ytick.color": STAND_IN["muted"],
    "xtick.labelcolor": STAND_IN["ink"],
    "ytick.labelcolor": STAND_IN["ink"],
    "text.color": STAND_IN["ink"],
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
}


def colour(number: int) -> str:
    """Stand-in colour of the model of that number."""
    return STAND_IN[COLOURS[number % len(COLOURS)]]


def marker(number: int) -> str:
    """Marker of the model of that number."""
    return MARKERS[number % len(MARKERS)]


@contextmanager
def plot(described: str) -> Iterator[tuple[Any, list[str]]]:
    """Axes to draw on, and a list that holds the finished SVG afterwards.

    Args:
        described: what a screen reader says in the picture's place.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    done: list[str] = []
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
        try:
            yield axes, done
            done.append(_themed(figure, described))
        finally:
            plt.close(figure)


def _themed(figure: Any, described: str) -> str:
    from io import StringIO
    from xml.sax.saxutils import quoteattr

    buffer = StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    for name, stand_in in STAND_IN.items():
        text = text.replace(stand_in, f"var(--{name})")
    text = re.sub(r"font: (?:\w+ )*([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r" font-family: [^;\"]*;?", "", text)
    # savefig writes it
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups()  # type: ignore[union-attr]
    text = text.replace(
        text[: text.index(">") + 1],
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label={quoteattr(described)}>',
        1,
    )
    return _own_names(re.sub(r"\n\s*", "\n", text))


def _own_names(text: str) -> str:
    """Ids that no other picture of the page has: clip paths and markers are numbered by what is in this one; other ids
    go."""
    import hashlib

    prefix = "p" + hashlib.sha256(text.encode()).hexdigest()[:8]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))

    def rename(match: re.Match) -> str:
        return f' id="{prefix}-{match.group(1)}"' if match.group(1) in used else ""

    text = re.sub(r' id="([^"]+)"', rename, text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    return re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{prefix}-\1"', text)


def swatch(number: int | None, kind: str = "marker", dash: str = "-") -> str:
    """A small SVG for a legend: a model's marker (None: the reference's), or a line of its colour."""
    ink = "var(--muted)" if number is None else f"var(--{COLOURS[number % len(COLOURS)]})"
    if kind == "line":
        pattern = {
            "-": "",
            "--": ' stroke-dasharray="5 3"',
            ":": ' stroke-dasharray="1.5 3"',
            "-.": ' stroke-dasharray="6 2.5 1.5 2.5"',
        }[dash]
        body = f'<path d="M1 6H23" fill="none" stroke="{ink}" stroke-width="2.2"{pattern}/>'
        return f'<svg class="swatch" viewBox="0 0 24 12" width="24" height="12" aria-hidden="true">{body}</svg>'
    if number is None:
        body = f'<circle cx="6" cy="6" r="4" fill="var(--page)" stroke="{ink}" stroke-width="1.8"/>'
    else:
        body = f'<path d="{_SHAPES[MARKERS[number % len(MARKERS)]]}" fill="{ink}"/>'
    return f'<svg class="swatch" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true">{body}</svg>'


_SHAPES = {
    "o": "M6 1.5a4.5 4.5 0 1 0 .01 0z",
    "s": "M2 2h8v8H2z",
    "D": "M6 .8L11.2 6 6 11.2.8 6z",
    "^": "M6 1L11 10.5H1z",
    "v": "M6 11L1 1.5h10z",
    "P": "M4.2 1h3.6v3.2H11v3.6H7.8V11H4.2V7.8H1V4.2h3.2z",
    "X": "M3.2 1L6 3.8 8.8 1 11 3.2 8.2 6 11 8.8 8.8 11 6 8.2 3.2 11 1 8.8 3.8 6 1 3.2z",
    "h": "M6 .8l4.5 2.6v5.2L6 11.2 1.5 8.6V3.4z",
}
