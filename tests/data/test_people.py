"""The table of a set of people."""

import json

import pytest

from seaanchor.data.people import open_people
from seaanchor.data.places import EMBEDDED
from seaanchor.errors import SeaAnchorError

ROW = {"file": "a.png", "role": "caf\u00e9 owner\u2028", "gender": "man", "half": "test"}


def test_a_table_with_marks_and_line_ends_of_other_systems(tmp_path):
    rows = [ROW, ROW | {"gender": "woman"}, ROW | {"gender": "person"}]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "people.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    people = open_people(tmp_path, "test")
    assert people.roles == ("caf\u00e9 owner",) and people.gender == (0, 1)
    assert len(open_people(EMBEDDED / "emoji-people", None).roles) > 10


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "is missing"), ("[1]", "could not be read"), ("{}", "could not be read"), ('"a"', "could not be read")],
)
def test_tables_that_are_none(tmp_path, content, found):
    if content is not None:
        (tmp_path / "people.jsonl").write_text(content)
    with pytest.raises(SeaAnchorError, match=rf"people\.jsonl {found}"):
        open_people(tmp_path, "test")
