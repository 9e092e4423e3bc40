"""A lock on a folder, so that two processes do not write to it at once.

It is the operating system's (`flock`), and goes with the process that holds it, however that ends: what a dead process
left behind keeps nobody out.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import warn_once

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, no other process holds the folder, which is made if it is not there. Where the file system has no locks
    that is said, and work goes on without.

    Raises:
        SeaAnchorError: another process holds it, or the folder cannot be written.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = _acquire(folder / LOCK)
    except BlockingIOError:
        raise SeaAnchorError(
            f"another process is at work on {folder}",
            "one process at a time",
            "wait until it is done, end it, or name another --output",
        ) from None
    except OSError as error:
        raise SeaAnchorError(
            f"{folder} could not be written: {error.strerror or error}",
            "a folder that can be written",
            "name another --output",
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        os.close(number)
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where nothing was written


def _acquire(file: Path) -> int:
    """The number of the opened and locked file.

    Raises:
        BlockingIOError: another process holds it.
    """
    while True:
        number = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(number, file.parent) or _same(number, file):
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)  # its holder removed it in between: the name is that of another file by now


def _lock(number: int, folder: Path) -> bool:
    """Whether there are locks here; if so, this process holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        warn_once(f"the file system of {folder} has no locks ({error.strerror}): nothing keeps a second process out")
        return False
    return True


def _same(number: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), file.stat())
    except FileNotFoundError:
        return False
