"""A path that does not exist is told before a library is imported."""

import subprocess
import sys

import pytest

from seaanchor.data.places import EMBEDDED, check_there, place_of
from seaanchor.errors import SeaAnchorError


def test_what_a_source_stands_for(tmp_path, monkeypatch):
    assert place_of("photos/test") == place_of("photos", "test") == EMBEDDED / "photos" / "test"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert str(place_of("photos")) == "photos", "a folder of that name comes first"
    for source in ("photos", "emoji-people/test", "hf-data:NAME", "gone.jsonl", "gone.parquet", "shards/*.tar"):
        check_there(source)  # or its reader looks for it
    for source in ("gone", "gone/photos", "gone.tar"):
        with pytest.raises(SeaAnchorError, match="is missing, and no source is called"):
            check_there(source)


def test_a_name_that_lies_beside_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    for source, near in (("pictuers", "pictures"), ("pictures/trian", "pictures/train"), ("photo", "photos")):
        with pytest.raises(SeaAnchorError, match=f"did you mean {near}\\?"):
            check_there(source)
    with pytest.raises(SeaAnchorError, match="photos-mini has no part 'val'") as told:
        check_there("photos-mini/val")
    assert told.value.expected == "one of photos-mini/test, photos-mini/train"
    with pytest.raises(SeaAnchorError, match="correct the path"):
        check_there("elsewhere/zzz")


@pytest.mark.parametrize(
    "line", [["evaluate", "--model", "seaanchor-tiny", "--data"], ["train", "lore", "--train-data"]]
)
def test_a_wrong_path_imports_no_library(line):
    program = (
        "import sys; from seaanchor.cli import app\n"
        "try: app.main()\n"
        "except SystemExit as end: sys.exit(end.code + 10 * ('torch' in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program, *line, "gone"], capture_output=True, text=True)
    assert found.returncode == 2 and "error: gone is missing" in found.stderr
