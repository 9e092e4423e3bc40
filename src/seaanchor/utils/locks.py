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
from seaanchor.utils.log import log, warn_once

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Inside, no other process holds the folder, which is made if it is not there; yields whether one did before. Where
    the file system has no locks that is said, and work goes on without.

    Args:
        folder: to be held.
        wait: for a process that holds it, which is said, instead of an error.

    Raises:
        SeaAnchorError: another process holds it, or the folder cannot be written.
    """
    new, waited = not folder.exists(), False
    try:
        try:
            number = _acquire(folder / LOCK)
        except BlockingIOError:
            if not wait:
                raise
            log.info(f"waits for another process, which is at work on {folder}")
            number, waited = _acquire(folder / LOCK, wait), True
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
        yield waited
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        os.close(number)
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only where nothing was written


def remove_left(folder: Path) -> None:
    """Remove the lock that a dead process left in a folder, which nobody is at work on any more.

    Raises:
        SeaAnchorError: as `locked`.
    """
    if (folder / LOCK).exists():
        with locked(folder):
            pass


def _acquire(file: Path, wait: bool = False) -> int:
    """The number of the opened and locked file.

    Raises:
        BlockingIOError: another process holds it, and it is not waited for.
    """
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)  # its holder may have removed it
        try:
            number = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # removed since the line above
        try:
            if not _lock(number, file.parent, wait) or _same(number, file):
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)  # its holder removed it in between: the name is that of another file by now


def _lock(number: int, folder: Path, wait: bool) -> bool:
    """Whether there are locks here; if so, this process holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
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
