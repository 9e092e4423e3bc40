"""Results as tables on the terminal: every number beside the reference."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seaanchor.report.measures import PLAIN, TYPOGRAPHIC, Measure, count, measures, radius

SUITE_ROWS = {key: label for key, (label, _) in TYPOGRAPHIC.items()} | {
    "reading": "drawn class word",
    "gender": "gender",
    "activity": "activity",
}


def print_results(results: Sequence[dict[str, Any]]) -> None:
    """One table a data set: a row for every attack and radius and every suite's numbers, with 95 % intervals and the
    change against the reference. Details of single corruptions stay in the file."""
    console = Console()
    for result in results:
        found = [m for m in measures(result) if not m.fold and not (m.suite in PLAIN and m.label == "top-5")]
        reference = result.get("reference")
        n, constant = count(result), result.get("constant_predictor")
        title = (
            f"{result['dataset']}: {result['model']}"
            + (f", n = {n}" if n else "")
            + ("" if constant is None else f", constant predictor {constant:.1%}")
        )
        table = Table(title=escape(title))
        for column in ("", "value", "95 % interval", *(("reference", "change") if reference else ())):
            table.add_column(column, justify="left" if not column else "right")
        for measure in found:
            table.add_row(*_cells(measure, bool(reference)))
        console.print(table)
        caveat = (result.get("suites") or {}).get("bias", {}).get("caveat")
        for line in filter(None, (caveat, result.get("skipped"), *(result.get("notes") or ()))):
            console.print(escape(line))


def _cells(measure: Measure, beside: bool) -> list[str]:
    value, change = measure.value, measure.change
    interval = (
        ""
        if value.low is None or value.high is None
        else f"{_text(value.low, measure)} to {_text(value.high, measure)}"
    )
    cells = [escape(_name(measure)), _text(value.value, measure), interval]
    if beside:
        cells.append(_text(measure.reference.value, measure) if measure.reference else "")
        cells.append(
            "" if change is None else f"{100 * change.value:+.1f}" if measure.percent else f"{change.value:+.4f}"
        )
    return cells


def _name(measure: Measure) -> str:
    """A row's name, short enough for a terminal."""
    if measure.suite in PLAIN:
        return (
            {"clean": "clean", "lettered": PLAIN["lettered"]}[measure.suite]
            if measure.label == "top-1"
            else measure.label
        )
    if measure.suite in ("robust", "embedding"):
        return f"{measure.group}, {measure.label}"
    if measure.suite in ("typographic", "reading", "bias", "drift"):
        return f"{measure.suite}: {measure.label}"
    return f"{measure.group}: {measure.label}"


def _text(value: float, measure: Measure) -> str:
    return f"{value:.1%}" if measure.percent else f"{value:.4f}"


__all__ = ["SUITE_ROWS", "print_results", "radius"]
