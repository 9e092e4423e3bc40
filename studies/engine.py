"""One engine for every design: train, measure, tabulate, draw, judge."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from seaanchor.data.sources import open_images
from seaanchor.sweeps.engine import Row, save_rows, write_numbers
from seaanchor.sweeps.tables import Cell, Column, as_csv, markdown, share, summarise
from seaanchor.utils.checkpoint import write_atomic
from studies.claims import verdict_of
from studies.declare import Arms, Design, Results, Section, SetColumns
from studies.figures import draw
from studies.known_rows import precisions
from studies.rows import mixtures_of, rows_of, untouched
from studies.workspace import Workspace


def run_design(design: Design, workspace: Workspace) -> Section:
    """Train and measure what a design declares, or what is missing of it, and write its table and figure.

    Raises:
        SeaAnchorError: as `train` and `evaluate`; or the model of the arms is missing.
    """
    workspace = replace(workspace, photos=design.photos)
    arms = design.arms(workspace) if callable(design.arms) else design.arms
    rows = _rows(design, arms, workspace)
    every = [*untouched(rows), *rows]
    text, table = table_of(every, _columns(design, workspace), workspace)
    results = Results(every, table, workspace)
    more = design.after_table(results)
    draw(design, results)
    besides = rows_of(design, design.compared, workspace, rows)
    results = replace(results, rows=[*every, *besides, *design.derived_rows(results)])
    verdicts = tuple(verdict_of(claim, results.rows, workspace) for claim in design.claims)
    picture = f"\n![{design.picture}](figure.svg)\n"
    body = _note(design, arms, rows, workspace) + text + more + picture
    return Section(body, ("figure.svg",), verdicts + design.further_verdicts(results))


def _rows(design: Design, arms: Arms, workspace: Workspace) -> list[Row]:
    rows = [] if design.mixtures and design.mixtures.alone else rows_of(design, arms, workspace)
    if design.mixtures:
        rows += mixtures_of(design, arms, workspace)
    rows += design.further_rows(workspace)
    write_numbers(rows, workspace.output / "numbers.csv")
    return rows


def _columns(design: Design, workspace: Workspace) -> list[Column]:
    """Declared columns, with those that are repeated for every set elsewhere."""
    columns: list[Column] = []
    for column in design.columns:
        if isinstance(column, SetColumns):
            for label, path in workspace.elsewhere().items():
                columns += [share(title.replace("{set}", label), name, path) for title, name in column.columns]
        else:
            columns.append(column)
    return columns


def table_of(
    rows: Sequence[Row], columns: Sequence[Column], workspace: Workspace, name: str = "table"
) -> tuple[str, dict[str, dict[str, Cell]]]:
    """Rows as Markdown and cells; CSV, and the rows as JSON, beside the figures."""
    table = summarise(rows, columns)
    write_atomic(workspace.output / f"{name}.csv", as_csv(table, columns))
    save_rows(rows, workspace.output / f"{name}.json")
    return markdown(table, columns), table


def _note(design: Design, arms: Arms, rows: Sequence[Row], workspace: Workspace) -> str:
    """The paragraph before the table, with what the options of the command decide."""
    note = design.note
    filled: dict[str, Callable[[], str]] = {
        "{seeds}": workspace.over_seeds,
        "{train}": lambda: _training_photos(arms, workspace),
        "{counts}": lambda: _counts(rows, workspace),
    }
    for mark, text in filled.items():
        note = note.replace(mark, text()) if mark in note else note
    names = dict.fromkeys([*arms, *(row.arm for row in rows)])  # mixtures have rows of their own
    if words := precisions(design.pool.kept(workspace), list(names), workspace.seeds):
        note = f"{note} Updates in {words}."
    return f"{note}\n\n"


def _training_photos(arms: Arms, workspace: Workspace) -> str:
    given, own = workspace.source("train", ""), next(iter(arms.values())).train_data
    count = f"{len(open_images(given or own, split='train').paths):,} photos"
    return f"{count} given" if given else f"`{own}` ({count})"


def _counts(rows: Sequence[Row], workspace: Workspace) -> str:
    """How many images each column stands on."""
    labels = {path: label for label, path in workspace.elsewhere().items()}
    count = {row.dataset: row.numbers["clean"].n for row in rows}
    return "n = " + ", ".join(f"{n:,} of {labels.get(dataset, dataset)}" for dataset, n in count.items())
