"""One way to open the `datasets` library's tables: what is saved, files of each kind, and a name that only the Hub
could know."""

import json
import logging

import datasets
import pytest

from seaanchor.data.huggingface.library import is_saved, library, load
from seaanchor.errors import SeaAnchorError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_tables_on_disk(tmp_path):
    table = datasets.Dataset.from_dict({"text": ["a", "b"]})
    table.save_to_disk(tmp_path / "saved")
    table.to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in "ab"))
    assert is_saved(tmp_path / "saved") and not is_saved(tmp_path)
    for name in ("saved", "rows.parquet", "rows.jsonl"):
        for streaming in (False, True):
            assert [row["text"] for row in load(str(tmp_path / name), streaming=streaming)] == ["a", "b"]
    (tmp_path / "rows.xlsx").touch()
    with pytest.raises(SeaAnchorError, match="a file of another kind"):
        load(str(tmp_path / "rows.xlsx"))


def test_the_hub_is_asked_with_one_line_and_not_a_warning_for_each_attempt(capsys):
    with pytest.raises(Exception, match="nothing-of-that-name"):
        load("someone/nothing-of-that-name")
    assert (
        capsys.readouterr().err
        == "note: there is no file someone/nothing-of-that-name here; asking the Hugging Face Hub\n"
    )
    library()
    assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)
