"""Results as a table: clean and robust accuracy, each beside the reference."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

SUITE_ROWS = {
    "attacked": "wrong word drawn (T)", "attack_word": "drawn word wins", "two_way": "object above drawn word", "unreadable": "unreadable cover",
    "reading": "drawn class word", "gender": "gender", "activity": "activity",
}  # fmt: skip


def radius(epsilon: float) -> str:
    """`2/255` where it is one, else the number."""
    parts = Fraction(epsilon * 255).limit_denominator(100)
    return f"{parts.numerator}/255" if parts.denominator == 1 else f"{epsilon:.4g}"


def print_results(results: Sequence[dict[str, Any]]) -> None:
    """One table a data set: a row for every attack and radius, with 95 % intervals and the change against the reference."""
    console = Console()
    for result in results:
        reference = result.get("reference")
        constant = f"constant predictor {result['constant_predictor']:.1%}"
        table = Table(title=escape(f"{result['dataset']}: top-1 of {result['model']}, n = {result['clean']['n']}, {constant}"))
        for column in ("", "accuracy", "95 % interval", *(("reference", "change") if reference else ())):
            table.add_column(column, justify="left" if not column else "right")
        for label, row, beside in _rows(result, reference):
            cells = [label, f"{row['accuracy']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}"]
            if beside:
                cells += [f"{beside['accuracy']:.1%}", f"{100 * (row['accuracy'] - beside['accuracy']):+.1f}"]
            table.add_row(*cells)
        console.print(table)
        drift = result.get("suites", {}).get("drift")
        moved = f"drift: cosine to the reference {drift['cosine']:.4f}, relative squared distance {drift['distance']['mean']:.4f}" if drift else ""
        for line in filter(None, (moved, result["skipped"], *result["notes"])):
            console.print(escape(line))


def _rows(result: dict[str, Any], reference: dict[str, Any] | None) -> list[tuple[str, dict, dict | None]]:
    rows = [("clean", result["clean"], reference and reference["clean"])]
    steps = {plan["name"]: plan["num_steps"] for plan in result["protocol"]["plans"]}
    for i, row in enumerate(result["robust"]):
        label = f"{row['attack']}, {steps[row['attack']]} steps, ε = {radius(row['epsilon'])}"
        rows.append((label, row, reference and reference["robust"][i]))
    for suite, found in result.get("suites", {}).items():
        beside = reference and reference["suites"][suite]
        rows += [(f"{suite}: {SUITE_ROWS[key]}", value, beside and beside[key]) for key, value in found.items() if key in SUITE_ROWS]
    return rows
