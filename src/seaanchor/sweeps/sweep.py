"""`seaanchor sweep`: a grid or a list over any settings of a recipe, as one table and one front."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seaanchor.config.schema import RunConfig
from seaanchor.data.types import TypographicImages
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.advice import report_command
from seaanchor.evaluation.images import open_source
from seaanchor.evaluation.suites.retrieval import DEPTHS
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.arms import Arm, grid, one
from seaanchor.sweeps.cost import sweep_cost
from seaanchor.sweeps.engine import EvaluationSpec, Row, run_arms, save_rows
from seaanchor.sweeps.tables import Cell, as_csv, markdown, share, summarise, value, with_intervals
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log
from seaanchor.utils.plain_files import parse_yaml, read_text
from seaanchor.utils.text import plural

UNTOUCHED = "untouched"
SHOWN = 12  # columns of the printed table; numbers.csv has all


def parse_vary(items: Sequence[str]) -> dict[str, list[str]]:
    """`anchor.rho=0.03,0.1` → {"anchor.rho": ["0.03", "0.1"]}; a tuple's members are joined by `+`.

    Raises:
        SeaAnchorError: an item of another form, a setting given twice.

    >>> parse_vary(["anchor.rho=0.03,0.1"])
    {'anchor.rho': ['0.03', '0.1']}
    """
    found: dict[str, list[str]] = {}
    for item in items:
        name, equals, values = item.partition("=")
        listed = [v.strip() for v in values.split(",") if v.strip()]
        if not equals or not listed:
            raise SeaAnchorError(
                f"--vary {item}", "a setting and its values, such as anchor.rho=0.03,0.1", "write it so"
            )
        if name in found:
            raise SeaAnchorError(f"--vary {name} is given twice", "each setting once", "join the values by commas")
        found[name] = listed
    return found


def read_points(file: Path) -> list[dict[str, Any]]:
    """A YAML list of mappings, setting → value: points that are no grid.

    Raises:
        SeaAnchorError: missing file, or something other than such a list.
    """
    expected, change = "a YAML list of settings", "write - {anchor.rho: 0.1, lr: 1.0e-4} on each line"
    try:
        points = parse_yaml(read_text(file, expected, change))
    except ValueError as error:
        raise SeaAnchorError(f"{file} could not be read ({error})", expected, change) from error
    if not isinstance(points, list) or not points or not all(isinstance(p, dict) and p for p in points):
        raise SeaAnchorError(
            f"{file} holds no list of settings",
            "one mapping a line",
            "write - {anchor.rho: 0.1, lr: 1.0e-4} on each line",
        )
    return [{str(key): setting for key, setting in point.items()} for point in points]


def sweep(
    base: RunConfig,
    vary: dict[str, list[str]],
    points: Sequence[dict[str, Any]],
    seeds: Sequence[int],
    spec: EvaluationSpec,
    x: str,
    y: str,
    *,
    dry_run: bool = False,
) -> list[Row]:
    """Train and evaluate every point with every seed, and write numbers.csv, table.csv, table.md, front.svg to the
    base's output folder.

    Args:
        base: settings that all share; its output is the sweep's folder.
        vary: a grid; points: a list. Their arms are joined.
        seeds: of every arm.
        spec: data sets and protocol.
        x, y: measures of the front's axes, such as `clean` and `apgd 2/255`.
        dry_run: print what the runs would cost, and write nothing; the result is then empty.

    Raises:
        SeaAnchorError: nothing to vary, a setting that does not exist, an axis that was not measured.
    """
    arms: list[Arm] = (grid(base, vary) if vary else []) + [one(base, point) for point in points]
    if not arms:
        raise SeaAnchorError(
            "a sweep without --vary and without --points", "settings to vary", "try --vary anchor.rho=0.03,0.1"
        )
    _check_axes(spec, x, y)
    if dry_run:
        sweep_cost(arms, seeds, base.output)
        return []
    rows = run_arms(arms, seeds, [spec], base.output)
    for dataset in dict.fromkeys(row.dataset for row in rows):
        mine = [row for row in rows if row.dataset == dataset]
        _write(
            mine, base.output / "".join(c if c.isalnum() or c in "-." else "_" for c in dataset.strip("/"))[-60:], x, y
        )
    save_rows(rows, base.output / "rows.json")
    page = report_command([base.output / "evaluation"], [str(base.output)])
    log.info(f"numbers: {base.output / 'numbers.csv'}\nshow them on one page: {page}")
    return rows


def _check_axes(spec: EvaluationSpec, x: str, y: str) -> None:
    """See, before hours of training, that the data can be opened and the axes will be measured on every set."""
    others = [suite for suite in spec.protocol.suites if suite != "retrieval"]
    retrieval = [
        f"retrieval.{way}.recall@{k}"
        for way in ("image_to_text", "text_to_image")
        for k in DEPTHS
        if "retrieval" in spec.protocol.suites
    ]
    attacked = [
        f"{plan.name} {round(255 * epsilon, 3):g}/255" for plan in spec.protocol.plans for epsilon in plan.epsilons
    ]
    for source in spec.sources:
        images, captions = open_source(source, None, spec.protocol)
        plain = [] if captions is not None else ["lettered" if isinstance(images, TypographicImages) else "clean"]
        measured = [*plain, *attacked, *retrieval, *(f"{suite}.…" for suite in others)]
        for axis in (x, y):
            if axis not in measured and axis.partition(".")[0] not in others:
                found, change = (
                    f"the axis {axis!r} will not be measured on {source}",
                    "correct --x or --y, or add its suite",
                )
                raise SeaAnchorError(found, f"one of {', '.join(measured)}", change)


def _write(rows: list[Row], folder: Path, x: str, y: str) -> None:
    """Table and front of one data set."""
    names = [name for name in rows[0].numbers if not name.startswith("drift.deciles")]
    for axis in (x, y):
        if axis not in names:
            raise SeaAnchorError(
                f"the axis {axis!r} was not measured",
                f"one of {', '.join(names)}",
                "correct --x or --y, or add its suite",
            )
    columns = [
        share(n, n) if rows[0].numbers[n].n is not None else value(n, n)
        for n in [x, y, *(n for n in names if n not in (x, y))]
    ]
    untouched = Row(UNTOUCHED, -1, rows[0].dataset, rows[0].reference, rows[0].reference)
    means = summarise([untouched, *rows], columns)
    write_atomic(folder / "table.csv", as_csv(means, columns))
    table = with_intervals(means, [untouched, *rows])
    shown = f"{markdown(table, columns[:SHOWN])}\n{brackets(rows)}\n"
    write_atomic(folder / "table.md", shown)
    panels([(rows[0].dataset, x, y, _series(table, rows, x, y))], folder / "front.svg")
    log.info(f"\n{rows[0].dataset}, shares in %\n\n{shown}\nfront: {folder / 'front.svg'}")


def brackets(rows: Sequence[Row]) -> str:
    """What the brackets of a table say, and how many images its shares rest on.

    >>> from seaanchor.evaluation.statistics import Share
    >>> brackets([Row("a", 0, "photos", {"clean": Share(0.5, 0.4, 0.6, 80)}, {})])
    'In brackets: 95 % intervals. Shares of 80 images.'
    """
    seeds = len({row.seed for row in rows})
    counts = sorted({found.n for row in rows for found in row.numbers.values() if found.n is not None})
    what = "95 % intervals" if seeds == 1 else f"smallest and largest of {seeds} seeds; untouched: 95 % intervals"
    images = "" if not counts else f" Shares of {plural(counts[-1], 'image')}"
    fewer = f", some of {counts[0]:,} only" if len(counts) > 1 else ""
    return f"In brackets: {what}.{images}{fewer}{'.' if images else ''}"


def _series(table: dict[str, dict[str, Cell]], rows: list[Row], x: str, y: str) -> list[Series]:
    """One line for each value of all settings but the last, which runs along it."""
    scale = {axis: 100.0 if rows[0].numbers[axis].n is not None else 1.0 for axis in (x, y)}
    groups: dict[str, list[tuple[str, str]]] = {}
    for arm, settings in {row.arm: row.settings for row in rows}.items():
        *others, last = settings.items() if settings else [("", arm)]
        groups.setdefault(", ".join(f"{k} {v}" for k, v in others) or str(last[0]), []).append((arm, str(last[1])))
    found = [
        Series(UNTOUCHED, [scale[x] * table[UNTOUCHED][x].mean], [scale[y] * table[UNTOUCHED][y].mean], line=False)
    ]
    for label, members in groups.items():
        cells = [table[arm] for arm, _ in members]
        low, high = ([scale[y] * getattr(c[y], end) for c in cells] for end in ("low", "high"))
        names = [name for _, name in members]
        found.append(
            Series(
                label,
                [scale[x] * c[x].mean for c in cells],
                [scale[y] * c[y].mean for c in cells],
                low,
                high,
                line=False,
                names=names,
            )
        )
    return found
