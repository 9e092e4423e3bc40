"""Measures arranged for the page: one table a data set, and the same numbers as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seaanchor.report.charts import Series
from seaanchor.report.comparable import groups_of, titles_of
from seaanchor.report.measures import Measure, Value, count
from seaanchor.report.readers import measures
from seaanchor.report.sources import Entry, ResultFile
from seaanchor.utils.text import plural


@dataclass(frozen=True)
class Found:
    """One model on one data set: what was measured, and the files that say so."""

    entry: Entry
    number: int
    results: tuple[ResultFile, ...]
    measures: tuple[Measure, ...]

    @property
    def series(self) -> Series:
        """For the figures."""
        return Series(self.number, self.entry.label, self.measures)


@dataclass(frozen=True)
class Row:
    """A line of a table: one number of every model, None where a model has none, and the reference's."""

    label: str
    reference: Value | None
    cells: tuple[Measure | None, ...]
    percent: bool


@dataclass(frozen=True)
class Group:
    """Rows under one heading."""

    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Dataset:
    """Everything about one list of images.

    Attributes:
        name: as it was given to `seaanchor evaluate`, with what distinguishes it where the page has several lists of
            that name.
        found: the models evaluated on it.
        groups: what the table shows.
        bias: the same of people in roles, in a section of its own.
        folded: details, in a foldable part.
        about: number of images and classes, in words.
        constant: accuracy of a constant answer, if known.
        warnings: why numbers may not be comparable.
    """

    name: str
    found: tuple[Found, ...]
    groups: tuple[Group, ...]
    bias: tuple[Group, ...]
    folded: tuple[Group, ...]
    about: str
    constant: float | None
    warnings: tuple[str, ...]


def datasets(entries: Sequence[Entry]) -> list[Dataset]:
    """One record for each list of images: those of which most was measured first, then those of most images."""
    groups = groups_of([file for entry in entries for file in entry.results])
    titles = titles_of(groups)
    tables = [_dataset(title, group, entries) for title, group in zip(titles, groups, strict=True)]

    def weight(table: Dataset) -> tuple[int, int]:
        suites = max(len({m.suite for m in f.measures}) for f in table.found)
        return -suites, -max((m.value.n or 0 for f in table.found for m in f.measures), default=0)

    return sorted(tables, key=weight)


def _dataset(title: str, group: Sequence[ResultFile], entries: Sequence[Entry]) -> Dataset:
    found = []
    for number, entry in enumerate(entries):
        results = tuple(result for result in entry.results if any(result is one for one in group))
        if results:
            found.append(Found(entry, number, results, _merged(results)))
    keys = list(dict.fromkeys(m.key for f in found for m in f.measures))
    rows = [(key, _row(key, found)) for key in _grouped(keys)]
    folds = {m.key for f in found for m in f.measures if m.fold}
    shown = [(key, row) for key, row in rows if key not in folds]
    return Dataset(
        title,
        tuple(found),
        _groups([r for r in shown if r[0][0] != "bias"]),
        _groups([r for r in shown if r[0][0] == "bias"]),
        _groups([r for r in rows if r[0] in folds]),
        _about(found),
        found[0].results[0].result.constant_predictor,
        _warnings(found),
    )


def _merged(results: Sequence[ResultFile]) -> tuple[Measure, ...]:
    """The measures of several files of one model on one data set; where two give the same one, the one on more images
    is taken."""
    best: dict[tuple[str, str, str], Measure] = {}
    for result in results:
        for measure in measures(result.result):
            before = best.get(measure.key)
            if before is None or (measure.value.n or 0) > (before.value.n or 0):
                best[measure.key] = measure
    return tuple(best.values())


def _grouped(keys: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Keys with those of one group together, groups in the order in which they are met."""
    order = {group: i for i, group in enumerate(dict.fromkeys(key[:2] for key in keys))}
    return sorted(keys, key=lambda key: order[key[:2]])


def _row(key: tuple[str, str, str], found: Sequence[Found]) -> Row:
    cells = tuple(f.series.find(key) for f in found)
    references = [m.reference for m in cells if m and m.reference]
    agreed = references[0] if references else None
    first = next(m for m in cells if m)
    return Row(first.label, agreed, cells, first.percent)


def _groups(rows: Sequence[tuple[tuple[str, str, str], Row]]) -> tuple[Group, ...]:
    names = dict.fromkeys(key[:2] for key, _ in rows)
    return tuple(Group(name[1], tuple(row for key, row in rows if key[:2] == name)) for name in names)


def _about(found: Sequence[Found]) -> str:
    counts = sorted({n for f in found for r in f.results if (n := count(r.result))})
    classes = sorted({len(r.result.protocol.class_names) for f in found for r in f.results} - {0})
    images = plural(counts[-1], "image") if counts else ""
    images = f"{counts[0]:,} to {images}" if len(counts) > 1 else images
    return ", ".join(filter(None, (images, plural(classes[0], "class", "classes") if len(classes) == 1 else "")))


DECIDES = ("images", "class_names", "templates", "pixels")
"""Settings of the protocol that two results must share to be compared; attacks and drawings are in the rows'
headings."""


def _warnings(found: Sequence[Found]) -> tuple[str, ...]:
    protocols = [file.result.protocol for f in found for file in f.results]
    known = {key: {repr(found) for p in protocols if (found := getattr(p, key)) not in (None, ())} for key in DECIDES}
    differ = [key for key, values in known.items() if len(values) > 1]
    if not differ:
        return ()
    names = ", ".join({"pixels": "preprocessing"}.get(key, key.replace("_", " ")) for key in differ)
    return (f"The results differ in {names}: compare them with care.",)


def apart(tables: Sequence[Dataset]) -> str:
    """One sentence that says which models are not compared, because they were measured on different images; empty where
    any two models share a table."""
    labels = dict.fromkeys(found.entry.label for table in tables for found in table.found)
    where = {label: [t.name for t in tables if any(f.entry.label == label for f in t.found)] for label in labels}
    if all(set(one) & set(other) for one in where.values() for other in where.values()):
        return ""
    named = "; ".join(f"{label} on {', '.join(names)}" for label, names in where.items())
    return f"Models that were measured on different images are not compared: {named}."


HEADER = (
    "model",
    "dataset",
    "suite",
    "group",
    "measure",
    "unit",
    "value",
    "low",
    "high",
    "n",
    "reference",
    "reference_low",
    "reference_high",
    "change",
    "change_low",
    "change_high",
    "change_interval",
    "better_on",
    "worse_on",
    "files",
)


def as_csv(tables: Sequence[Dataset]) -> str:
    """Every number of the page, shares in [0, 1], intervals at 95 %, one line a model, data set and measure."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for table in tables:
        for found in table.found:
            files = " ".join(result.path.name for result in found.results)
            for m in found.measures:
                unit = "share" if m.percent else ""
                numbers: list[Any] = [*_ends(m.value), m.value.n, *_ends(m.reference), *_ends(m.change)]
                texts = [_inert(text) for text in (found.entry.label, table.name, m.suite, m.group, m.label, unit)]
                shown = ["" if x is None else f"{x:.6g}" for x in numbers]
                way = m.change.way if m.change else ""
                writer.writerow([*texts, *shown, way, *(m.turned or ("", "")), _inert(files)])
    return buffer.getvalue()


def _inert(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _ends(value: Value | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if value is None else (value.value, value.low, value.high)
