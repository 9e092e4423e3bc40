"""A table cut into blocks whose every cell has a number: rows that the same models have stand together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seaanchor.report.tables import Dataset, Found, Group, Row


@dataclass(frozen=True)
class Block:
    """Rows with a column for each model that has them, and one for the reference where it has them."""

    found: tuple[Found, ...]
    referenced: bool
    groups: tuple[Group, ...]


def blocks(table: Dataset, groups: Sequence[Group]) -> list[Block]:
    """The groups in blocks, in the order in which each set of models is met.

    Args:
        table: the data set, whose models are the columns.
        groups: what to show.
    """
    kept: dict[tuple[tuple[int, ...], bool], dict[str, list[Row]]] = {}
    for group in groups:
        for row in group.rows:
            who = tuple(i for i, cell in enumerate(row.cells) if cell is not None)
            rows = kept.setdefault((who, row.reference is not None), {}).setdefault(group.name, [])
            rows.append(replace(row, cells=tuple(row.cells[i] for i in who)))
    return [
        Block(
            tuple(table.found[i] for i in who),
            referenced,
            tuple(Group(name, tuple(rows)) for name, rows in named.items()),
        )
        for (who, referenced), named in kept.items()
    ]
