"""Numbers over seeds as Markdown and CSV."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from seaanchor.sweeps.engine import Row


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: head of the column.
        read: a row's value, or None where it has none.
        digits: after the point.
        scale: what the value is multiplied by; 100 for shares in %.
    """

    title: str
    read: Callable[[Row], float | None]
    digits: int = 1
    scale: float = 100.0


def share(title: str, name: str, dataset: str = "") -> Column:
    """A column of shares in %, by the measure's name, on the data set whose name starts so."""
    return Column(title, _reader(name, dataset))


def value(title: str, name: str, digits: int = 3, dataset: str = "") -> Column:
    """A column of plain numbers."""
    return Column(title, _reader(name, dataset), digits, 1.0)


def _reader(name: str, dataset: str) -> Callable[[Row], float | None]:
    """Reads a measure of the data sets whose names start so."""
    return lambda row: row.numbers[name].accuracy if row.dataset.startswith(dataset) and name in row.numbers else None


@dataclass(frozen=True)
class Cell:
    """A mean over seeds, with the smallest and largest."""

    mean: float
    low: float
    high: float
    count: int


def summarise(rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, dict[str, Cell]]:
    """Arm → title → cell, arms in the order they come."""
    table: dict[str, dict[str, Cell]] = {}
    for arm in dict.fromkeys(row.arm for row in rows):
        mine = [row for row in rows if row.arm == arm]
        found = {column.title: [x for row in mine if (x := column.read(row)) is not None] for column in columns}
        table[arm] = {
            title: Cell(mean(values), min(values), max(values), len(values))
            for title, values in found.items()
            if values
        }
    return table


def with_intervals(table: Mapping[str, Mapping[str, Cell]], rows: Sequence[Row]) -> dict[str, dict[str, Cell]]:
    """The table with the 95 % interval of what was measured where an arm has one seed, and so no range over seeds.

    Args:
        table: whose titles are names of measures.
        rows: that it was made of.
    """
    found = {arm: dict(cells) for arm, cells in table.items()}
    for row in rows:
        for title, cell in table[row.arm].items():
            measured = row.numbers[title]
            if cell.count == 1 and measured.low is not None and measured.high is not None:
                found[row.arm][title] = replace(cell, low=measured.low, high=measured.high)
    return found


def markdown(table: Mapping[str, Mapping[str, Cell]], columns: Sequence[Column], head: str = "") -> str:
    """A Markdown table: the mean, and in brackets the smallest and the largest, or the interval."""
    lines = [f"| {' | '.join([head, *(column.title for column in columns)])} |", "|" + " --- |" * (len(columns) + 1)]
    for arm, cells in table.items():
        shown = [_cell(cells.get(column.title), column) for column in columns]
        lines.append(f"| {' | '.join([arm, *shown])} |")
    return "\n".join(lines) + "\n"


def _cell(cell: Cell | None, column: Column) -> str:
    if cell is None:
        return ""
    middle, low, high = (f"{column.scale * x:.{column.digits}f}" for x in (cell.mean, cell.low, cell.high))
    return middle if low == high else f"{middle} ({low} to {high})"


def as_csv(table: Mapping[str, Mapping[str, Cell]], columns: Sequence[Column], head: str = "arm") -> str:
    """The same as CSV: mean, smallest and largest of every column, unscaled."""
    titles = [column.title for column in columns]
    lines = [",".join([head, *(f"{_quoted(t)},{_quoted(t + ' min')},{_quoted(t + ' max')}" for t in titles), "seeds"])]
    for arm, cells in table.items():
        shown = [f"{c.mean:.6g},{c.low:.6g},{c.high:.6g}" if (c := cells.get(t)) else ",," for t in titles]
        lines.append(",".join([_quoted(arm), *shown, str(max((c.count for c in cells.values()), default=0))]))
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n') else text
