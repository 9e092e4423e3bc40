"""How numbers are written on the page, and the small bar beside a change."""

import re
from typing import Any

from seaanchor.report.measures import Measure, Value

MINUS = "\N{MINUS SIGN}"


def bar(measure: Measure, scale: float) -> str:
    """The change as a bar from 0 with its interval, as SVG; empty where there is none to draw."""
    change = measure.change
    if change is None or change.low is None or change.high is None or not measure.percent:
        return ""
    x, low, high = (60 + 56 * value / scale for value in (change.value, change.low, change.high))
    tone = {"gain": "--gain", "loss": "--loss"}.get(measure.verdict, "--muted")
    return (
        '<svg class="bar" viewBox="0 0 120 14" width="120" height="14" aria-hidden="true">'
        '<path d="M60 0V14" stroke="var(--muted)" stroke-width="1" opacity=".55"/>'
        f'<path d="M{min(60, x):.1f} 4h{abs(x - 60):.1f}v6h-{abs(x - 60):.1f}z" fill="var({tone})" opacity=".8"/>'
        f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 4.5v5M{high:.1f} 4.5v5" stroke="var(--ink)" '
        'stroke-width="1.1" opacity=".65"/></svg>'
    )


def _number_text(value: float, percent: bool, signed: bool = False) -> str:
    text = f"{100 * value:{'+' if signed else ''}.1f}" if percent else f"{value:{'+' if signed else ''}.3f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def value_text(value: Value | None, percent: bool) -> str:
    """Per cent with one decimal, or three decimals; a dash where there is nothing."""
    return "–" if value is None else _number_text(value.value, percent)


def interval_text(value: Value | None, percent: bool, signed: bool = False) -> str:
    """Both ends; empty where they are not known."""
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{_number_text(value.low, percent, signed)} to {_number_text(value.high, percent, signed)}"


def change_text(value: Value | None, percent: bool) -> str:
    """A signed change; empty where there is none."""
    return "" if value is None else _number_text(value.value, percent, signed=True)


def breakable(text: str) -> Any:
    """Text that may break after the slashes, dashes and underscores of a path."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/_\-.=])", text) if part)
