"""The list of a folder's checksums: damage anywhere is found, in the list too, and `sha256sum` reads it."""

import shutil
import subprocess

import pytest

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checksums import NAME, check_checksums, write_checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"size": 32}')
    (tmp_path / "merges").write_bytes(bytes(range(20)))
    (tmp_path / "below").mkdir()
    write_checksums(tmp_path)
    return tmp_path


def test_one_flipped_bit_anywhere_is_found(folder):
    check_checksums(folder)
    for file in (folder / "config.json", folder / "merges", folder / NAME):
        whole = file.read_bytes()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            with pytest.raises(SeaAnchorError, match="is not what was written"):
                check_checksums(folder)
        file.write_bytes(whole)
    check_checksums(folder)


def test_what_is_missing_is_named_and_what_is_more_is_passed_over(folder):
    (folder / "notes.txt").write_text("mine")
    check_checksums(folder)
    (folder / "merges").unlink()
    with pytest.raises(SeaAnchorError, match="merges"):
        check_checksums(folder)
    (folder / NAME).write_text("")
    with pytest.raises(SeaAnchorError, match=NAME):
        check_checksums(folder)
    (folder / NAME).unlink()
    check_checksums(folder)  # as older versions left it


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_the_list(folder):
    assert subprocess.run(["sha256sum", "--check", "--strict", NAME], cwd=folder, capture_output=True).returncode == 0
    (folder / "merges").write_bytes(b"other")
    assert subprocess.run(["sha256sum", "--check", NAME], cwd=folder, capture_output=True).returncode == 1
