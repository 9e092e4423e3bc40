"""The run folder: its checkpoints and its log."""

import errno

import pytest
import torch

from seaanchor.errors import SeaAnchorError
from seaanchor.training.run_folder import RunFolder


def test_only_the_last_two_are_kept(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.save(step, {"step": step, "x": torch.full((3,), float(step))})
    assert [p.name for p in folder.checkpoints()] == ["step-00000002.safetensors", "step-00000003.safetensors"]
    assert folder.load(2)["x"].tolist() == [2, 2, 2] and folder.latest()["step"] == 3


def test_a_full_disk_while_logging(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.log({"step": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(folder.metrics), "open", full)
    with pytest.raises(SeaAnchorError, match=r"No space left on device[\s\S]*--resume auto"):
        folder.log({"step": 2})
    monkeypatch.undo()
    assert folder.rows() == [{"step": 1}]


NO_ROWS = """
[]
3
{
{"loss": 1}
{"step": "1"}
{"step": true}
{"step": -1}
{"step": 1, "lr": 1e99, "loss": 1180591620717411303424}
{"step": 1, "lr": []}
{"step": 1, "seconds": "2"}
{"step": 1, "eval": 3}
{"step": 1, "eval": {"a": {"clean": "x2", "pgd": {}}}}
"""


def test_evaluations_of_both_weights_are_rows(tmp_path):
    folder, row = (
        RunFolder(tmp_path),
        {"step": 2, "eval": {"a": {"clean": 0.5}}, "eval_averaged": {"a": {"clean": 0.6}}},
    )
    folder.log({"step": 1, "lr": 0.1})
    folder.log(row)
    assert folder.rows() == [{"step": 1, "lr": 0.1}, row]


@pytest.mark.parametrize("line", [*NO_ROWS.split("\n")[1:-1], "[" * 3000])
def test_lines_that_are_no_rows_are_dropped(line, tmp_path):
    good = ['{"step": 1, "lr": 0.1, "multiplier": NaN}', '{"step": 2, "eval": {"photos": {"clean": 0.5, "pgd": null}}}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([good[0], line, good[1], ""]))
    assert [row["step"] for row in RunFolder(tmp_path).rows()] == [1, 2]
