"""`seaanchor report`: one offline HTML page that shows what was gained and what it cost, and the same numbers as
CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seaanchor import __version__
from seaanchor.errors import SeaAnchorError
from seaanchor.plotting.svg import swatch
from seaanchor.report.facts import as_yaml, check_lines, papers, protocols, run_line, versions
from seaanchor.report.figures import figures_of, number_of
from seaanchor.report.measures import Way
from seaanchor.report.radii import trained_radius
from seaanchor.report.runs import Run
from seaanchor.report.sources import Entry, Sources, read_sources
from seaanchor.report.tables import Dataset, as_csv, datasets, glance
from seaanchor.report.text import bar, breakable, change_text, interval_text, value_text
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log


def write_report(
    runs: Sequence[Path | str], output: Path | str | None = None, *, gallery: int = 6, device: str | None = None
) -> Path:
    """Write the page and, beside it, a CSV file of the same name.

    Args:
        runs: run folders, evaluation folders and result files.
        output: an `.html` file, or a folder for `report.html`; by default the run's own folder, where one is given.
        gallery: attacked images to show of each model; 0 leaves them out, and loads no model.
        device: where the gallery is computed.

    Returns:
        The page.

    Raises:
        SeaAnchorError: as `read_sources`; several inputs without an output; a negative gallery.
    """
    paths = [Path(run) for run in runs]
    if gallery < 0:
        raise SeaAnchorError(f"a gallery of {gallery} images", "0 or more", "correct --gallery")
    sources = read_sources(paths)
    for warning in sources.warnings:
        log.warning(warning)
    page = _target(paths, None if output is None else Path(output))
    tables = datasets(sources.entries)
    html = render(sources, tables, page.with_suffix(".csv").name, galleries(sources.entries, gallery, device))
    write_atomic(page.with_suffix(".csv"), as_csv(tables))
    write_atomic(page, html)
    return page


def _target(paths: Sequence[Path], output: Path | None) -> Path:
    if output is None:
        if len(paths) == 1 and paths[0].is_dir():
            return paths[0] / "report.html"
        raise SeaAnchorError(
            "a report on several things, or on a file, without --output",
            "where the page goes",
            "add --output report.html",
        )
    if output.suffix.lower() in (".html", ".htm"):
        return output
    if output.is_file():
        raise SeaAnchorError(f"{output} is a file", "a folder, or a name that ends in .html", "name another --output")
    return output / "report.html"


def galleries(entries: Sequence[Entry], count: int, device: str | None = None) -> list[Any]:
    """Attacked images of every model that was evaluated under an attack; none for a count of 0."""
    if count == 0:
        return []
    from seaanchor.report.gallery import gallery

    return [found for entry in entries if (found := gallery(entry, count, device)) is not None]


def render(sources: Sources, tables: Sequence[Dataset], csv_name: str, pictures: Sequence[Any]) -> str:
    """The page as HTML; the same input gives the same page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("seaanchor.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": value_text,
        "interval": interval_text,
        "change": change_text,
        "svg": Markup,
        "breakable": breakable,
    }
    legend = [(swatch(i), entry.label) for i, entry in enumerate(sources.entries)]
    runs = [run_line(run, number_of(run, sources.entries)) for run in sources.runs]
    checks = check_lines(tables)
    evaluated = {f.number for table in tables for f in table.found}
    trained = _trained(sources.entries)
    return environment.get_template("page.html.j2").render(
        title=_title(sources.entries),
        evaluated=[line for i, line in enumerate(legend) if i in evaluated],
        runs=runs,
        tables=[table for table in tables if table.groups],
        bias=[table for table in tables if table.bias],
        glance=glance(tables[0], trained) if tables else None,
        legend=legend,
        without=[
            entry.label for entry in sources.entries if not entry.results and not (entry.run and entry.run.steering)
        ]
        if tables
        else [],
        warnings=sources.warnings,
        hollow=swatch(None),
        figures=figures_of(sources, tables, trained),
        pictures=pictures,
        checks=checks,
        failed=sum(line.failed for line in checks),
        csv_name=csv_name,
        bar=bar,
        scale=_scale(tables),
        ways=_ways(tables),
        protocols=protocols(sources.entries),
        settings=[(run.label, as_yaml(run.config)) for run in sources.runs],
        papers=papers(sources),
        versions=versions(sources),
        version=__version__,
        has_steering_bias=any(_on_people(run) for run in sources.runs),
    )


def _title(entries: Sequence[Entry]) -> str:
    labels = [entry.label for entry in entries]
    return ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"


def _trained(entries: Sequence[Entry]) -> float | None:
    return next((found for entry in entries if (found := trained_radius(entry)) is not None), None)


def _on_people(run: Run) -> bool:
    return run.steering is not None and any(row.gender for row in run.steering.rows)


def _ways(tables: Sequence[Dataset]) -> dict[Way, bool]:
    """Which ways of finding an interval of a change are on the page."""
    used = {m.change.way for table in tables for f in table.found for m in f.measures if m.change}
    return {"paired": "paired" in used, "unpaired": "unpaired" in used}


def _scale(tables: Sequence[Dataset]) -> float:
    """The largest end of an interval of a change, which all bars of the page share."""
    ends = [
        abs(end)
        for t in tables
        for f in t.found
        for m in f.measures
        if m.percent and m.change
        for end in (m.change.low, m.change.high)
        if end is not None
    ]
    return max(ends, default=0.1)
