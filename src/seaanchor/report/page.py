"""`seaanchor report`: one offline HTML page that shows what was gained and what it cost, and the same numbers as
CSV."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaanchor import __version__
from seaanchor.encoders.hub import without_hub
from seaanchor.errors import SeaAnchorError
from seaanchor.plotting.svg import swatch
from seaanchor.report.allowed import Allowed, allowed_by_user
from seaanchor.report.blocks import blocks
from seaanchor.report.conclusion import conclusion
from seaanchor.report.facts import as_yaml, check_lines, papers, protocols, run_line, versions
from seaanchor.report.figures import figures_of, number_of
from seaanchor.report.glance import Glance, glance
from seaanchor.report.measures import Way
from seaanchor.report.radii import trained_radius
from seaanchor.report.reproduce import evaluate_commands, report_command, says_all
from seaanchor.report.runs import Run
from seaanchor.report.sources import Entry, Sources, read_sources
from seaanchor.report.tables import Dataset, apart, as_csv, datasets
from seaanchor.report.terms import explained, terms_of
from seaanchor.report.text import bar, breakable, change_text, interval_text, value_text
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.log import log

if TYPE_CHECKING:
    from jinja2 import Environment

EPOCH = re.compile("[0-9]{1,11}")  # seconds, up to the year 5138
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


@dataclass(frozen=True)
class Head:
    """What the page says of itself: title, day, name of its CSV file, the commands that make it again, and the sentence
    on what is not compared; and whether the commands name all weights, classes and preprocessing."""

    title: str
    date: str
    csv_name: str
    commands: tuple[str, ...]
    apart: str = ""
    says_all: bool = False


@dataclass(frozen=True)
class GalleryOptions:
    """What is asked for of the gallery: how many images, computed where, and what may be loaded."""

    count: int
    device: str | None
    allow: tuple[str, ...]


def write_report(
    runs: Sequence[Path | str],
    output: Path | str | None = None,
    *,
    gallery: int = 6,
    device: str | None = None,
    title: str | None = None,
    allow: Sequence[Path | str] = (),
) -> Path:
    """Write the page and, beside it, a CSV file of the same name.

    Args:
        runs: run folders, evaluation folders and result files.
        output: an `.html` file, or a folder for `report.html`; by default the run's own folder, where one is given.
        gallery: images to show under attack; 0 leaves them out, and loads no model.
        device: where the gallery is computed.
        title: heading of the page; by default the models' names.
        allow: model folders, folders of several, and weights files, outside the runs, that may be loaded for the
            gallery.

    Returns:
        The page.

    Raises:
        SeaAnchorError: as `read_sources`; several inputs without an output; a negative gallery; nothing there
            that is allowed.
    """
    if gallery < 0:
        raise SeaAnchorError(f"a gallery of {gallery} images", "0 or more", "correct --gallery")
    with without_hub("a report does not ask it"):
        return _write(
            [Path(run) for run in runs], output, GalleryOptions(gallery, device, tuple(map(str, allow))), title
        )


def _write(paths: Sequence[Path], output: Path | str | None, shown: GalleryOptions, title: str | None) -> Path:
    allowed = allowed_by_user(shown.allow)
    sources = read_sources(paths)
    page = _target(paths, None if output is None else Path(output))
    tables = datasets(sources.entries)
    told_apart = apart(tables)
    for warning in (*sources.warnings, *filter(None, [told_apart])):
        log.warning(warning)
    head = Head(
        title or _title(sources.entries),
        _today(),
        page.with_suffix(".csv").name,
        (*evaluate_commands(sources.entries), report_command(paths, page, shown.count, title, shown.allow)),
        told_apart,
        says_all(sources.entries),
    )
    html = render(sources, tables, head, _pictures(sources.entries, shown, allowed))
    write_atomic(page.with_suffix(".csv"), as_csv(tables))
    write_atomic(page, html)
    return page


def _today() -> str:
    """The day, such as `1 May 2030`; that of SOURCE_DATE_EPOCH where builds that repeat set it."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    day = datetime.fromtimestamp(int(seconds), UTC) if EPOCH.fullmatch(seconds) else datetime.now()
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


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


def _pictures(entries: Sequence[Entry], shown: GalleryOptions, allowed: Allowed) -> list[Any]:
    """Attacked images of every model that was evaluated under an attack; none for a count of 0."""
    if shown.count == 0:
        return []
    from seaanchor.report.gallery import galleries

    return galleries(entries, shown.count, shown.device, allowed)


def render(sources: Sources, tables: Sequence[Dataset], head: Head, pictures: Sequence[Any]) -> str:
    """The page as HTML; the same input gives the same page."""
    legend = [(swatch(i), entry.label) for i, entry in enumerate(sources.entries)]
    evaluated = {f.number for table in tables for f in table.found}
    trained = _trained(sources.entries)
    glances = [found for table in tables if (found := glance(table, trained)).columns]
    checks = check_lines(tables)
    return _unbroken(
        _environment()
        .get_template("page.html.j2")
        .render(
            head=head,
            evaluated=[line for i, line in enumerate(legend) if i in evaluated],
            runs=[run_line(run, number_of(run, sources.entries)) for run in sources.runs],
            tables=[table for table in tables if table.groups],
            bias=[table for table in tables if table.bias],
            glances=glances,
            conclusions=_conclusions(glances),
            legend=legend,
            without=_without(sources) if tables else [],
            warnings=sources.warnings,
            hollow=swatch(None),
            figures=figures_of(sources, tables, trained),
            pictures=pictures,
            checks=checks,
            failed=sum(line.failed for line in checks),
            bar=bar,
            scale=_scale(tables),
            ways=_ways(tables),
            blocks=blocks,
            terms_of=terms_of,
            explained=explained,
            protocols=protocols(sources.entries),
            settings=[(run.label, as_yaml(run.config)) for run in sources.runs],
            papers=papers(sources),
            versions=versions(sources),
            version=__version__,
            has_steering_bias=any(_on_people(run) for run in sources.runs),
        )
    )


def _unbroken(html: str) -> str:
    """Numbers and their % stay on one line; what is there to copy keeps its spaces."""
    return re.sub(r"<(pre|code)\b.*?</\1>|(?<=\d) (?=%)", lambda m: m[0] if m[1] else "\u00a0", html, flags=re.DOTALL)


def _environment() -> "Environment":
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
    return environment


def _conclusions(glances: Sequence[Glance]) -> list[tuple[str, str]]:
    """(swatch, sentence) of every model on the first data set, and of models that are on others alone."""
    said: set[int] = set()
    lines = []
    for found in glances:
        for place, model in enumerate(found.dataset.found):
            if model.number not in said and (text := conclusion(found, place)):
                said.add(model.number)
                lines.append((swatch(model.number), text))
    return lines


def _without(sources: Sources) -> list[str]:
    """Names of the models of which nothing was measured."""
    return [entry.label for entry in sources.entries if not entry.results and not (entry.run and entry.run.steering)]


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
