"""Results as tables on the terminal: every number beside the reference."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from seaanchor.evaluation.results import EvaluationResult
from seaanchor.report.measures import CLEAN, PLAIN, Measure, Value, count, radius
from seaanchor.report.readers import TYPOGRAPHIC, measures

SUITE_ROWS = {key: label for key, (label, _) in TYPOGRAPHIC.items()} | {
    "reading": "drawn class word",
    "gender": "gender",
    "activity": "activity",
}


def print_results(results: Sequence[EvaluationResult]) -> None:
    """One table a data set: a row for every attack and radius and every suite's numbers, with 95 % intervals and the
    change against the reference. Details of single corruptions stay in the file."""
    console = Console()
    for result in results:
        found = [m for m in measures(result) if not m.fold and not (m.suite in PLAIN and m.label == "top-5")]
        n, constant, has_reference = count(result), result.constant_predictor, result.reference is not None
        title = (
            f"{result.dataset}: {result.model}"
            + (f", n = {n}" if n else "")
            + ("" if constant is None else f", constant predictor {constant:.1%}")
        )
        table = Table(title=escape(title))
        for column in ("", "value", "95 % interval", *(("reference", "change") if has_reference else ())):
            table.add_column(column, justify="left" if not column else "right")
        for measure in found:
            table.add_row(*_cells(measure, has_reference))
        console.print(table)
        caveat = result.suites.bias.caveat if result.suites.bias else ""
        for line in filter(None, (caveat, result.skipped, *result.notes)):
            console.print(escape(line))


def _cells(measure: Measure, has_reference: bool) -> list[str]:
    value = measure.value
    cells = [escape(_name(measure)), _text(value.value, measure), _range(value, measure)]
    if has_reference:
        cells.append(_text(measure.reference.value, measure) if measure.reference else "")
        cells.append("" if measure.change is None else _change(measure.change, measure))
    return cells


def _range(value: Value, measure: Measure) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"{_text(value.low, measure)} to {_text(value.high, measure)}"


def _change(change: Value, measure: Measure) -> str:
    """A change in points, with its interval where there is one."""
    if not measure.percent:
        return f"{change.value:+.4f}"
    if change.low is None or change.high is None:
        return f"{100 * change.value:+.1f}"
    return f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"


def _name(measure: Measure) -> str:
    """A row's name, short enough for a terminal."""
    if measure.suite in PLAIN:
        if measure.label != "top-1":
            return measure.label
        return "clean" if measure.suite == CLEAN else PLAIN[measure.suite]
    if measure.suite in ("robust", "embedding"):
        return f"{measure.group}, {measure.label}"
    if measure.suite in ("typographic", "reading", "bias", "drift"):
        return f"{measure.suite}: {measure.label}"
    return f"{measure.group}: {measure.label}"


def _text(value: float, measure: Measure) -> str:
    return f"{value:.1%}" if measure.percent else f"{value:.4f}"


__all__ = ["SUITE_ROWS", "print_results", "radius"]
