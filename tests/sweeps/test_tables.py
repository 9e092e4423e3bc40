"""Numbers over seeds, sections of a document, and figures."""

import csv
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.statistics import Share
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import Row, read_rows, save_rows, write_numbers
from seaanchor.sweeps.sweep import brackets
from seaanchor.sweeps.tables import as_csv, markdown, share, summarise, value, with_intervals
from studies.declare import Section, Study
from studies.sections import write_section
from studies.word_studies import crossing
from studies.workspace import Workspace


def rows() -> list[Row]:
    """Two arms, three seeds."""
    found = {"a": (0.1, 0.2, 0.6), "b, with comma": (0.5, 0.5, 0.5)}
    return [
        Row(
            arm,
            seed,
            "photos",
            {"clean": Share(x, x, x, 10), "drift.cosine": Share(x / 2)},
            {"clean": Share(0.9)},
        )
        for arm, xs in found.items()
        for seed, x in enumerate(xs)
    ]


COLUMNS = (share("clean %", "clean"), value("cosine", "drift.cosine", 2), share("elsewhere %", "clean", "emoji"))


def test_means_and_ranges_over_seeds():
    table = summarise(rows(), COLUMNS)
    cell = table["a"]["clean %"]
    assert (cell.mean, cell.low, cell.high, cell.count) == (pytest.approx(0.3), 0.1, 0.6, 3)
    assert "elsewhere %" not in table["a"], "no such data set"
    lines = markdown(table, COLUMNS).splitlines()
    assert lines[2] == "| a | 30.0 (10.0 to 60.0) | 0.15 (0.05 to 0.30) |  |"
    assert lines[3] == "| b, with comma | 50.0 | 0.25 |  |"


def test_one_seed_has_its_interval_and_several_their_range():
    """The arm of one seed shows the interval of its share; a number without one stays alone."""
    columns = (share("clean", "clean"), value("drift.cosine", "drift.cosine", 2))
    single = Row("one", 0, "photos", {"clean": Share(0.5, 0.25, 0.75, 10), "drift.cosine": Share(0.5)}, {})
    made = [*rows(), single]
    lines = markdown(with_intervals(summarise(made, columns), made), columns).splitlines()
    assert lines[2] == "| a | 30.0 (10.0 to 60.0) | 0.15 (0.05 to 0.30) |"
    assert lines[4] == "| one | 50.0 (25.0 to 75.0) | 0.50 |"
    assert brackets(made) == (
        "In brackets: smallest and largest of 3 seeds; untouched: 95 % intervals. Shares of 10 images."
    )
    assert brackets([single]) == "In brackets: 95 % intervals. Shares of 10 images."


def test_csv_survives_commas_and_keeps_full_values():
    parsed = list(csv.DictReader(io.StringIO(as_csv(summarise(rows(), COLUMNS), COLUMNS))))
    assert parsed[1]["arm"] == "b, with comma"
    assert float(parsed[0]["clean % max"]) == 0.6 and parsed[0]["seeds"] == "3"


def test_numbers_file_has_a_line_for_every_measure_with_the_untouched_value(tmp_path: Path):
    write_numbers(rows(), tmp_path / "numbers.csv")
    parsed = list(csv.DictReader((tmp_path / "numbers.csv").open()))
    assert len(parsed) == 6 * 2
    numbers = {"value": "0.1", "low": "0.1", "high": "0.1", "n": "10", "untouched": "0.9"}
    assert parsed[0] == {"arm": "a", "seed": "0", "dataset": "photos", "measure": "clean"} | numbers
    assert parsed[1]["low"] == "" and parsed[1]["untouched"] == ""


def test_rows_are_read_as_they_were_saved(tmp_path: Path):
    save_rows(rows(), tmp_path / "rows.json")
    assert read_rows(tmp_path / "rows.json") == rows()


def test_a_section_takes_the_place_of_its_former_self_and_of_nothing_else(tmp_path: Path):
    workspace = Workspace(tmp_path / "runs", seeds=(0,))
    workspace.output.mkdir()
    (workspace.output / "figure.svg").write_text("<svg/>")
    docs = tmp_path / "docs" / "results.md"
    docs.parent.mkdir()
    docs.write_text("# Results\n\nBefore.\n")
    one, two = (Study(name, name.title(), "A claim.", 1, lambda workspace: Section("")) for name in ("one", "two"))
    write_section(one, Section("first\n\n![f](figure.svg)", ("figure.svg",)), workspace, docs)
    write_section(two, Section("other"), workspace, docs)
    docs.write_text(docs.read_text() + "\nAfter.\n")
    for _ in range(3):
        write_section(one, Section("second"), workspace, docs)
    text = docs.read_text()
    assert "\n\n\n" not in text, "empty lines heap up"
    assert text.startswith("# Results\n\nBefore.\n") and text.endswith("After.\n")
    assert "first" not in text and "second" in text and "other" in text
    assert "python -m studies one --seeds 0\n" in text
    assert (docs.parent / "figures" / "one-figure.svg").read_text() == "<svg/>"


def test_the_seeds_of_a_table_in_words(tmp_path: Path):
    said = [Workspace(tmp_path, seeds=seeds).over_seeds() for seeds in ((2,), (0, 1))]
    assert said == ["seed 2", "mean over seeds 0, 1, range in brackets"]


def test_half_a_mark_is_an_error(tmp_path: Path):
    docs = tmp_path / "results.md"
    docs.write_text("<!-- begin one -->\nlost\n")
    with pytest.raises(SeaAnchorError, match="without"):
        write_section(
            Study("one", "One", "", 1, lambda workspace: Section("")), Section("x"), Workspace(tmp_path), docs
        )
    assert "lost" in docs.read_text()


def test_a_figure_is_the_same_file_every_time_and_has_its_labels(tmp_path: Path):
    series = [
        Series("a & b", [2.0, 1.0], [10.0, 20.0], [9.0, 18.0], [11.0, 22.0]),
        Series("points", [1.5], [15.0], line=False, names=["here"]),
    ]
    for name in ("one", "two"):
        panels(
            [("title", "x", "y", series), ("second", "x", "y", series[:1])],
            tmp_path / f"{name}.svg",
            marks=((1.0, "mark"),),
        )
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert ET.fromstring(text).tag.endswith("svg")


def test_a_curve_is_read_between_its_points():
    assert crossing([0.0, 1.0, 3.0], [10.0, 8.0, 0.0], 2.0) == pytest.approx(4.0)
    assert crossing([0.0, 1.0], [10.0, 8.0], 1.0) == 8.0
    assert crossing([0.0, 1.0, 0.5], [10.0, 8.0, 6.0], 2.0) == 8.0, "never reached: where it comes nearest"
