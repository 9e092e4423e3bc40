"""State on disk: exact, atomic, and honest about what is broken."""

import errno
import os
import random
import stat
import subprocess
import sys
import time

import pytest
import torch

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import check_sum, load_state, save_state, tensors_in, write_atomic, write_checked
from seaanchor.utils.checksums import write_checksums


def optimizer_state() -> dict:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {
        "step": 7,
        "policy": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "name": "é",
        "none": None,
        "nested": [1, [2.5, True]],
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b


def test_round_trip_is_exact(tmp_path):
    state = optimizer_state() | {
        "float": 0.1 + 0.2,
        "bf16": torch.randn(3).bfloat16(),
        "empty": torch.zeros(0),
        "mask": torch.tensor([True, False]),
    }
    save_state(tmp_path / "s", state)
    assert same(state, load_state(tmp_path / "s"))
    assert list(load_state(tmp_path / "s")["optimizer"]["state"]) == [0, 1]  # integer keys stay integers


def test_tensors_that_share_memory_or_are_not_contiguous(tmp_path):
    x = torch.arange(6.0).view(2, 3)
    state = {"a": x, "b": x, "c": x.T, "d": x[:, 1]}
    save_state(tmp_path / "s", state)
    assert same(state, load_state(tmp_path / "s"))


def test_names_that_look_alike_stay_apart(tmp_path):
    state = {"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}, 1: torch.full((1,), 2.0), "1": torch.full((1,), 3.0)}
    save_state(tmp_path / "s", state)
    assert same(state, load_state(tmp_path / "s"))


def test_an_optimizer_goes_on_from_it(tmp_path):
    def step(model, optimizer, x):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()

    torch.manual_seed(0)
    x, models = torch.randn(5, 3), [torch.nn.Linear(3, 2) for _ in range(2)]
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2) for m in models]
    step(models[0], optimizers[0], x)
    save_state(tmp_path / "s", {"m": models[0].state_dict(), "o": optimizers[0].state_dict()})
    state = load_state(tmp_path / "s")
    models[1].load_state_dict(state["m"])
    optimizers[1].load_state_dict(state["o"])
    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer, x)
    assert torch.equal(models[0].weight, models[1].weight)


def test_a_write_makes_missing_folders_and_replaces(tmp_path):
    write_atomic(tmp_path / "a" / "b" / "f.txt", "one")
    write_atomic(tmp_path / "a" / "b" / "f.txt", b"two")
    assert (tmp_path / "a" / "b" / "f.txt").read_text() == "two"
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["f.txt"]


@pytest.mark.parametrize("where", ["fsync", "replace", "open"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where):
    target = tmp_path / "state"
    save_state(target, {"x": torch.zeros(3)})
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*args, **kwargs):
        raise full

    monkeypatch.setattr(
        *{"fsync": (os, "fsync"), "replace": (type(target), "replace"), "open": (type(target), "open")}[where], fail
    )
    with pytest.raises(SeaAnchorError, match="No space left on device") as error:
        save_state(target, {"x": torch.ones(3)})
    monkeypatch.undo()
    assert "intact" in str(error.value)
    assert torch.equal(load_state(target)["x"], torch.zeros(3))
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_an_interrupt_while_writing_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "state"
    write_atomic(target, "old")

    def interrupt(fd):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(target, "new")
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SeaAnchorError, match="could not be written"):
        write_atomic(tmp_path / "file" / "state", "x")


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 50, -1, -100])
def test_a_torn_file_is_recognised(tmp_path, cut):
    save_state(tmp_path / "s", {"x": torch.randn(50), "step": 1})
    whole = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(whole[:cut])
    with pytest.raises(SeaAnchorError, match="does not hold a checkpoint"):
        load_state(tmp_path / "s")


def test_other_files_are_recognised(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "weights.safetensors")
    (tmp_path / "text").write_text("hello, this is no checkpoint at all")
    for name in ("weights.safetensors", "text", "missing"):
        with pytest.raises(SeaAnchorError, match="does not hold a checkpoint"):
            load_state(tmp_path / name)


def test_killed_while_saving_over_and_over(tmp_path):
    """SIGKILL at arbitrary moments of a process that does nothing but save: the file is always whole."""
    script = (
        "import sys, torch; from pathlib import Path; from seaanchor.utils.checkpoint import save_state; i = 0\n"
        "while True:\n    save_state(Path(sys.argv[1]), {'step': i, 'x': torch.full((200_000,), float(i))}); "
        "i += 1; print(i, flush=True)"
    )
    target = tmp_path / "state"
    for extra in (0.0, 0.003, 0.006):
        with subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE) as process:
            for _ in range(3):
                process.stdout.readline()
            time.sleep(extra)
            process.kill()
        state = load_state(target)
        assert (state["x"] == state["step"]).all()


def test_tensors_in_finds_all():
    state = optimizer_state()
    assert len(list(tensors_in(state))) == 2 + 2 * 3
    assert list(tensors_in({"a": [torch.ones(1), (torch.zeros(1), {"b": torch.ones(2)})], "c": 3}))[2].shape == (2,)


def test_one_flipped_bit_anywhere_is_found(tmp_path):
    """In every byte of the file: length, header, checksum, padding and tensors."""
    save_state(tmp_path / "s", {"x": torch.randn(9), "step": 1, "checksum": '"checksum":"', "o": [torch.ones(2)]})
    whole = (tmp_path / "s").read_bytes()
    load_state(tmp_path / "s", unchecked=False)
    bits = random.Random(0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bits.randrange(8)
        (tmp_path / "s").write_bytes(damaged)
        with pytest.raises(SeaAnchorError, match="does not hold a checkpoint"):
            load_state(tmp_path / "s")


def test_a_file_of_an_older_version_is_read_with_a_note_where_that_will_do(tmp_path, capsys):
    from safetensors.torch import save_file

    skeleton = '{"d": [["x", {"__tensor__": ".x"}]]}'
    save_file({".x": torch.arange(3)}, tmp_path / "old", metadata={"state": skeleton})
    assert load_state(tmp_path / "old")["x"].tolist() == [0, 1, 2]
    assert "has no checksum" in capsys.readouterr().err
    with pytest.raises(SeaAnchorError, match="no checksum"):
        load_state(tmp_path / "old", unchecked=False)
    assert check_sum(tmp_path / "old") is False
    write_checked(tmp_path / "new", {"x": torch.arange(3)}, {})
    assert check_sum(tmp_path / "new") is True


def test_the_folder_is_flushed_after_the_rename(tmp_path, monkeypatch):
    flushed, real = [], os.fsync

    def fsync(number):
        flushed.append((stat.S_ISDIR(os.fstat(number).st_mode), (tmp_path / "f").exists()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "f", "x")
    assert flushed == [(False, False), (True, True)]  # the file before it has its name, the folder after


def test_what_dead_processes_left_of_a_file_is_removed_when_it_is_written(tmp_path):
    script = "import os, sys; from pathlib import Path; from seaanchor.utils.checkpoint import write_atomic\n"
    script += "write_atomic(Path(sys.argv[1]), lambda partial: (partial.write_bytes(b'half'), os._exit(9)))"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "a[1].json")], check=False)
    (orphan,) = tmp_path.iterdir()
    living = orphan.with_name(orphan.name.replace(orphan.name.split("-")[1], str(os.getppid())))
    elsewhere = orphan.with_name(orphan.name.replace(orphan.name.split("-")[0], ".a[1].json.0badcafe"))
    odd = orphan.with_name(orphan.name.replace(orphan.name.split("-")[1], "²"))
    for other in (living, elsewhere, odd, tmp_path / ".a[1].json.mine.partial", tmp_path / ".b.json.1-2-3.partial"):
        other.write_bytes(b"half")
    write_atomic(tmp_path / "a[1].json", "{}")
    assert not orphan.exists() and len(list(tmp_path.iterdir())) == 6


def test_the_same_state_gives_the_same_bytes(tmp_path):
    """safetensors writes metadata in an order of chance: of twelve files some would differ."""
    for number in range(12):
        save_state(tmp_path / str(number), {"b": torch.arange(3), "a": {"naïve": [1.5, torch.ones(2, 2)]}})
    assert len({(tmp_path / str(number)).read_bytes() for number in range(12)}) == 1
    assert load_state(tmp_path / "0")["a"]["naïve"][0] == 1.5


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_permissions_of_the_user_s_new_files(mask, mode, tmp_path):
    """Whoever writes them: safetensors gives its files to their owner alone."""
    from safetensors.torch import save_file

    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "a", "text")
        write_atomic(tmp_path / "b", lambda partial: save_file({"x": torch.zeros(2)}, partial))
        save_file({"x": torch.zeros(2)}, tmp_path / "c")
        write_checksums(tmp_path)
    finally:
        os.umask(before)
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == dict.fromkeys(
        ("a", "b", "c", "SHA256SUMS"), oct(mode)
    )
