"""The cache never gives what it was not asked for, and whatever happens to its folder no run ends of it."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seaanchor.utils import disk_cache
from seaanchor.utils.log import warn_once


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv(disk_cache.VARIABLE, str(tmp_path / "cache"))
    warn_once.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def ask():
    """Asks for an entry; what was computed is counted in `ask.computed`."""

    def call(depends_on: object = "this", value: float = 1.0, **settings) -> float:
        def compute() -> disk_cache.Entry:
            call.computed += 1
            return {"x": torch.full((100, 8), value), "index": torch.arange(3), "read": torch.tensor([True, False])}

        return disk_cache.get_or_compute("kind", lambda: depends_on, compute, **settings)["x"][0, 0].item()

    call.computed = 0
    return call


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def test_computed_once_and_for_each_thing_it_depends_on(folder, ask):
    assert [ask(value=1.0), ask(value=2.0), ask(["other", {"a": 1}], value=3.0), ask(value=4.0)] == [1, 1, 3, 1]
    assert ask.computed == 2 and len(entries(folder)) == 2
    found = disk_cache.read("kind", disk_cache.key("this"))
    assert found["index"].tolist() == [0, 1, 2] and found["read"].tolist() == [True, False]


def test_off_is_off(folder, ask, monkeypatch):
    monkeypatch.setenv(disk_cache.VARIABLE, "off")
    ask(), ask()
    assert ask.computed == 2 and not folder.exists()
    assert disk_cache.usage() == [] and disk_cache.clear() == (0, 0)


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable, xdg, expected in [
        ("~/mine", "/shared", tmp_path / "mine"),
        ("", "/shared", Path("/shared/seaanchor")),
        ("", "relative", tmp_path / ".cache/seaanchor"),
        ("", "", tmp_path / ".cache/seaanchor"),
        ("OFF", "", None),
    ]:
        monkeypatch.setenv(disk_cache.VARIABLE, variable)
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert disk_cache.location() == expected


def test_nothing_is_kept_of_what_cannot_be_told_or_changed_meanwhile(folder, ask):
    ask(None), ask(None)
    states = iter(["before", "after"])
    disk_cache.get_or_compute("kind", lambda: next(states), lambda: {"x": torch.zeros(1)})
    assert ask.computed == 2 and entries(folder) == []


def test_an_entry_that_will_not_do_is_computed_again(folder, ask):
    ask(value=1.0)
    assert ask(value=2.0, accept=lambda entry: entry["x"][0, 0] > 1) == 2
    assert ask(value=3.0, accept=lambda entry: entry["x"][0, 0] > 1) == 2  # the new one took its place


@pytest.mark.parametrize("damage", ["cut", "empty", "a bit", "garbage", "header"])
def test_a_damaged_entry_is_computed_again_and_replaced(folder, ask, capsys, damage):
    ask(value=1.0)
    (file,) = entries(folder)
    raw = bytearray(file.read_bytes())
    if damage == "a bit":
        raw[-5] ^= 1
    file.write_bytes(
        {"cut": raw[:-7], "empty": b"", "a bit": raw, "garbage": b"x" * 500, "header": b"\xff" * 8 + raw[8:]}[damage]
    )
    assert [ask(value=1.0), ask(value=5.0)] == [1, 1] and ask.computed == 2
    assert capsys.readouterr().err.count("computed again") == 1


def test_a_folder_that_cannot_be_written_is_told_once(folder, ask, capsys, monkeypatch):
    folder.write_text("a file")
    ask(), ask(["another"])
    errors = capsys.readouterr().err
    assert ask.computed == 2 and errors.count("warning") == 1 and "SEAANCHOR_CACHE=off" in errors


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    """The system refuses to let any file grow beyond a page, as a full disk or a quota would."""
    code = """
import torch
from seaanchor.utils import disk_cache
from seaanchor.utils.log import log_to_terminal
log_to_terminal()
for n in (1, 2):
    x = disk_cache.get_or_compute("kind", lambda: n, lambda: {"x": torch.full((10_000,), float(n))})["x"]
    print(x[0].item())
"""

    def limits() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=limits,
        capture_output=True,
        text=True,
        env=os.environ | {disk_cache.VARIABLE: str(tmp_path / "c")},
        check=True,
    )
    assert done.stdout.split() == ["1.0", "2.0"]
    assert done.stderr.count("warning") == 1 and "File too large" in done.stderr
    assert [file for file in (tmp_path / "c").rglob("*") if file.is_file()] == []


def test_two_processes_write_and_read_one_entry(tmp_path):
    """What either reads is whole at any moment."""
    code = """
import sys, torch
from seaanchor.utils import disk_cache
entry = {"x": torch.arange(200_000.0)}
for _ in range(40):
    assert disk_cache.write("kind", "same", entry)
    found = disk_cache.read("kind", "same")
    assert found is not None and torch.equal(found["x"], entry["x"])
print("sound")
"""
    settings = os.environ | {disk_cache.VARIABLE: str(tmp_path / "c")}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120) for process in both] == [("sound\n", "")] * 2
    assert [file.name for file in (tmp_path / "c").rglob("*") if file.is_file()] == ["same.safetensors"]


def test_room_is_made_by_what_was_not_used_for_longest(folder, monkeypatch):
    for age, name in enumerate(("new", "used", "old")):
        disk_cache.write("kind", name, {"x": torch.zeros(1000)})
        os.utime(folder / "kind" / f"{name}.safetensors", (1e9 - age, 1e9 - age))
    assert disk_cache.read("kind", "used") is not None  # now it is the newest
    killed = folder / "kind" / ".gone.safetensors.1-ab.partial"
    killed.write_text("half")
    os.utime(killed, (1e9, 1e9))
    size = (folder / "kind" / "new.safetensors").stat().st_size
    disk_cache.trim(folder, limit=2 * size)
    assert {file.stem for file in entries(folder)} == {"new", "used"} and not killed.exists()
    monkeypatch.setattr(disk_cache, "LIMIT", size)
    disk_cache.write("kind", "last", {"x": torch.zeros(1000)})
    assert [file.stem for file in entries(folder)] == ["last"]
    assert not disk_cache.write("kind", "huge", {"x": torch.zeros(2000)}) and [
        file.stem for file in entries(folder)
    ] == ["last"]


def test_large_tables_are_maps_of_the_file(folder, ask, monkeypatch):
    monkeypatch.setattr(disk_cache, "MAPPED", 1000)
    ask()
    first = disk_cache.get_or_compute("kind", lambda: "this", lambda: {})
    (file,) = entries(folder)
    assert str(file) in Path("/proc/self/maps").read_text()
    first["x"][0] = 7  # of this process alone
    assert ask() == 1
    disk_cache.clear()
    assert first["x"][1, 0] == 1  # what is in use stays readable


def test_the_commands(folder, ask, run, monkeypatch):
    ask(), ask("other")
    (folder / "kind" / "notes.txt").write_text("the user's own")
    code, out, _ = run("cache", "ls")
    assert code == 0 and str(folder) in out and "kind            2 entries" in out
    code, out, _ = run("cache", "clear")
    assert (
        code == 0 and out.startswith("2 entries") and entries(folder) == [] and (folder / "kind" / "notes.txt").exists()
    )
    monkeypatch.setenv(disk_cache.VARIABLE, "off")
    assert "off" in run("cache", "ls")[1]


def test_a_machine_of_another_kind_has_its_own_entries(folder, ask, monkeypatch):
    assert ask() == ask() == 1 and ask.computed == 1
    monkeypatch.setattr(disk_cache, "machine", lambda: ("x86_64", "another processor", "AVX512", ""))
    assert ask(value=2.0) == 2 and ask.computed == 2, "rounded otherwise"
    monkeypatch.undo()
    assert len(disk_cache.machine()) == 4
