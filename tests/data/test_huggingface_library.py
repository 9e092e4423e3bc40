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


def test_no_server_counts_what_is_opened_here():
    assert library().config.HF_UPDATE_DOWNLOAD_COUNTS is False


@pytest.mark.parametrize("place", ["https://127.0.0.1:9/a.csv", "../b.csv", "/etc/hostname", "zip://a.csv::b.zip"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_tables_names_no_files_elsewhere(tmp_path, place, streaming):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.csv").write_text("text\na\n")
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\n---\nA set.\n"
    (folder / "README.md").write_text(card.format("a.csv"))
    assert [row["text"] for row in load(str(folder), streaming=streaming)["train"]] == ["a"]
    (folder / "README.md").write_text(card.format(place))
    with pytest.raises(SeaAnchorError, match=r"README\.md names .* as a file of its data set"):
        load(str(folder), streaming=streaming)


def test_a_saved_table_names_no_files_elsewhere(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "saved")
    datasets.Dataset.from_dict({"text": ["b"]}).save_to_disk(tmp_path / "other")
    state = tmp_path / "saved" / "state.json"
    said = json.loads(state.read_text())
    name = said["_data_files"][0]["filename"]
    state.write_text(json.dumps(said | {"_data_files": [{"filename": f"../other/{name}"}]}))
    with pytest.raises(SeaAnchorError, match=r"state\.json names"):
        load(str(tmp_path / "saved"))
