"""Commands whose disk or whose life ends at one of their file operations: each in a process of its own."""

import errno
import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
KILLED = 9
TIMEOUT = 300  # seconds for a command
DIFFERS = ("env.json", "metrics.jsonl", "report.html", "README.md", "SHA256SUMS", ".torn")
"""Files that say when they were made, or how fast."""


def in_child(call: Callable[[], None], before: Callable[[], None] = lambda: None) -> int:
    """Run something in a forked process, quietly.

    Args:
        call: what is run.
        before: what is done first, such as setting a trap.

    Returns:
        Its exit code: 0, 2 for an error with a message, 1 for a traceback, 9 where it was killed, 124 where it hung.
    """
    from seaanchor.errors import SeaAnchorError

    child = os.fork()
    if child == 0:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        code = 1
        try:
            before()
            call()
            code = 0
        except SeaAnchorError:
            code = 2
        finally:
            os._exit(code)
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, KILLED)
    os.waitpid(child, 0)
    return 124


def trap(folder: Path, number: int, act: Callable[[], None]) -> Callable[[], None]:
    """What calls `act` at the file operation of that number below a folder: a file opened for writing, a rename, a
    removal, a new folder."""
    count = [0]
    home = str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            hit = isinstance(path, str | bytes | os.PathLike) and bool((flags or 0) & WRITES) and _below(path, home)
        else:
            hit = event in CHANGES and any(_below(path, home) for path in arguments[:2])
        if hit:
            count[0] += 1
            if count[0] == number:
                act()

    return lambda: sys.addaudithook(hook)


def _below(path: Any, home: str) -> bool:
    return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(home)


def die() -> None:
    """As a kill does: nothing is closed, flushed or tidied."""
    os._exit(KILLED)


def no_space() -> None:
    """As a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def operations(call: Callable[[], None], folder: Path) -> int:
    """How many file operations a command makes below a folder."""
    read, write = os.pipe()

    def note() -> None:
        os.write(write, b".")

    every = [trap(folder, number, note) for number in range(1, 400)]
    code = in_child(call, lambda: [setting() for setting in every] and None)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        count = len(file.read())
    if code != 0:
        raise RuntimeError(f"the undisturbed command ended with {code}")
    return count


def digest(folder: Path, only: Sequence[str] = ()) -> dict[str, str]:
    """Hashes of the files that a command leaves, by their paths; of those that say when they were made, nothing."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.endswith(DIFFERS))
    hidden = [file for file in files if any(part.startswith(".") for part in file.relative_to(folder).parts)]
    kept = [file for file in files if file not in hidden and (not only or file.suffix in only)]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in kept}
