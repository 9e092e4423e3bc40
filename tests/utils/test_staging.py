"""Folders that appear as a whole."""

import errno
from pathlib import Path

import pytest

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.locks import LOCK
from seaanchor.utils.staging import staged


def test_a_folder_appears_as_a_whole(tmp_path):
    with staged(tmp_path / "out") as place:
        (place / "a").write_text("a")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a"]


def test_nothing_is_left_of_one_that_failed(tmp_path):
    with pytest.raises(SeaAnchorError, match="No space left"), staged(tmp_path / "out") as place:
        (place / "a").write_text("a")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_removed_does_not_undo_a_folder_that_is_whole(tmp_path, monkeypatch):
    unlink = Path.unlink

    def full(path: Path, missing_ok: bool = False) -> None:
        if path == tmp_path / "out" / LOCK:
            raise OSError(errno.ENOSPC, "No space left on device")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", full)
    with staged(tmp_path / "out") as place:
        (place / "a").write_text("a")
    assert (tmp_path / "out" / "a").read_text() == "a"
