"""One layer reads text, JSON and YAML: whatever is wrong in them ends with one message that names the file."""

import errno
import json
import os
from pathlib import Path

import pytest

from seaanchor.config.io import read_yaml
from seaanchor.data.names import read_class_names, read_templates
from seaanchor.data.preference_rows import read_preferences
from seaanchor.data.sources import open_images
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.captions import read_captions
from seaanchor.evaluation.result_files import read_result
from seaanchor.sweeps.sweep import read_points
from seaanchor.utils import plain_files
from seaanchor.utils.plain_files import check_size, disk_error, parse_json, parse_yaml, read_object, read_text

DEEP = "[" * 1200 + "]" * 1200
READERS = {
    "result.json": read_result,
    "recipe.yaml": read_yaml,
    "points.yaml": read_points,
    "names.json": lambda file: read_class_names(file, None),
    "templates.json": lambda file: read_templates([str(file)]),
    "preferences.jsonl": read_preferences,
    "captions.jsonl": read_captions,
    "object.json": read_object,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content", [DEEP.encode(), b"\xff\xfe{", b"[1, {", b""], ids=["deep", "encoding", "cut", "empty"]
)
def test_every_reader_names_the_file(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeaAnchorError, match=name):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_permission_denied_is_called_that(name, tmp_path, monkeypatch):
    """Root may read everything, so the system's answer is put in its place."""
    (tmp_path / name).write_text("{}")

    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SeaAnchorError, match=f"{name} cannot be read: permission denied"):
        READERS[name](tmp_path / name)


def test_a_folder_that_may_be_listed_and_not_entered(image_folder, monkeypatch):
    before = os.stat

    def refuse(path, *args, **kwargs):
        if str(path).startswith(f"{image_folder}{os.sep}"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return before(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(SeaAnchorError, match="permission denied"):
        open_images(str(image_folder))


def test_a_name_that_is_too_long():
    error = OSError(errno.ENAMETOOLONG, "File name too long", "a" * 5000)
    assert len(disk_error(error).found) < 200 and "too long for a disk" in disk_error(error).found
    assert plain_files.why(error) == "cannot be read: its name is too long for a disk"
    with pytest.raises(SeaAnchorError, match="too long for a disk"):
        read_text(Path("a" * 300))


def test_yaml_that_names_one_part_many_times_or_inside_itself():
    assert parse_yaml("a: &a {b: 1}\nc: *a\n") == {"a": {"b": 1}, "c": {"b": 1}}
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_yaml("a: &a [*a]")
    ten = [1] * 10
    check_size([ten] * 10, most=111)
    with pytest.raises(ValueError, match="more than 110 values"):
        check_size([ten] * 10, most=110)
    with pytest.raises(ValueError, match=r"month|day"):
        parse_yaml("a: 2001-13-45")


def test_what_is_right_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": [1, {"b": None}]}).encode())
    assert read_object(tmp_path / "a.json") == {"a": [1, {"b": None}]}
    assert parse_json('{"a": 1}', dict) == {"a": 1}
