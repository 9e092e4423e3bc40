"""A folder is one process's at a time; whatever ends that process frees it."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from seaanchor.config.recipes import fare
from seaanchor.errors import SeaAnchorError
from seaanchor.training.run import train
from seaanchor.utils import locks
from seaanchor.utils.locks import LOCK, locked

HOLDER = """
import sys, time
from pathlib import Path
from seaanchor.utils.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `run`."""
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.communicate()


def test_a_second_process_is_refused_until_the_first_one_is_dead(tiny_run, tmp_path, holder):
    config = tiny_run(fare(), max_steps=1, resume="auto")
    with pytest.raises(SeaAnchorError, match=r"another process is at work on .*run\n"):
        train(config)
    assert os.listdir(config.output) == [LOCK]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    train(config)  # what the dead process left keeps nobody out
    assert (config.output / "export").is_dir() and not (config.output / LOCK).exists()


def test_nothing_is_left_of_a_lock(tmp_path):
    with locked(tmp_path / "new"), pytest.raises(SeaAnchorError, match="at work"), locked(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with locked(tmp_path):
        (tmp_path / "mine").write_text("")
    assert os.listdir(tmp_path) == ["mine"]


def test_a_file_system_without_locks_is_said_and_work_goes_on(tmp_path, monkeypatch, caplog):
    def flock(number, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locked(tmp_path):
        pass
    assert "has no locks (No locks available)" in caplog.text
