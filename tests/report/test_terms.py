"""Every short form of a page is explained, and none that is not there."""

import json
import re

import pytest

from seaanchor.report.blocks import blocks
from seaanchor.report.sources import read_sources
from seaanchor.report.tables import datasets
from seaanchor.report.terms import TERMS, explained, terms_of


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("APGD-CE, 10 steps, ℓ∞", ["APGD-CE", "ℓ∞"]),
        ("APGD, ε = 1/255", ["APGD", "ε"]),
        ("wrong word drawn (T)", ["T"]),
        ("The text", []),
        ("top-5", ["top-5"]),
        ("within ρ = 0.1", ["ρ"]),
    ],
)
def test_a_term_is_found_where_it_stands_alone(text, terms):
    assert [term for term, _ in explained([text])] == terms


def test_short_forms_in_every_table_are_explained(made, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(made.everything()))
    (table,) = datasets(read_sources([tmp_path]).entries)
    for groups in (table.groups, table.bias, table.folded):
        texts = " ".join(text for group in groups for text in (group.name, *(row.label for row in group.rows)))
        short = set(re.findall(r"\b(?:[A-Z]{2,}[\w-]*|[A-Z][a-z]+[A-Z]\w*)|[ℓ][∞2]|[ελρσ]|top-\d|IoU|recall", texts))
        assert short <= {term for term, _ in terms_of(groups)}, short
    assert all(meaning and not meaning.endswith(".") for meaning in TERMS.values())


def test_blocks_have_a_number_in_every_cell_and_lose_no_row(made, tmp_path):
    reference = made.result(0.5, 0.1, pretrained="base")
    for name, data in {"a": made.everything(reference=reference), "b": made.result(0.6, 0.2)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data | {"model": name, "pretrained": name}))
    (table,) = datasets(read_sources([tmp_path]).entries)
    cut = blocks(table, table.groups)
    assert len({len(block.found) for block in cut}) == 2
    assert sum(len(g.rows) for block in cut for g in block.groups) != 0
    rows = [(g.name, row.label) for block in cut for g in block.groups for row in g.rows]
    assert sorted(rows) == sorted((g.name, row.label) for g in table.groups for row in g.rows)
    for block in cut:
        for row in (row for group in block.groups for row in group.rows):
            assert len(row.cells) == len(block.found) and None not in row.cells
            assert (row.reference is not None) is block.referenced
