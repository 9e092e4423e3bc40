"""Folders that appear as a whole: they are written beside their place, under a hidden name, and renamed at the end.

A kill leaves the hidden folder, which is nobody's data, and which the same command clears away or goes on with.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import sync_folder
from seaanchor.utils.locks import LOCK, locked


def staging_of(output: Path) -> Path:
    """Where a folder is written until it is whole."""
    place = output.absolute()
    return place.with_name(f".{place.name}.partial")


@contextmanager
def staged(output: Path, keep: bool = False) -> Iterator[Path]:
    """A folder to write to, which becomes `output` where the block ends well; where it fails nothing is left.

    Args:
        output: a new or empty folder.
        keep: whether what an earlier attempt left is kept, for this one to go on.

    Raises:
        SeaAnchorError: the folder is in use, also by another process, or cannot be written.
    """
    check_free(output)
    staging = staging_of(output)
    try:
        with locked(staging):
            for path in staging.iterdir() if not keep else ():
                if path.name != LOCK:
                    remove(path)
            try:
                yield staging
                sync_folder(staging)
                os.rename(staging, output)
            except BaseException:
                if not keep:
                    shutil.rmtree(staging, ignore_errors=True)
                raise
            with suppress(OSError):  # the folder is whole, and a lock that stays says nothing of it
                (output / LOCK).unlink(missing_ok=True)
            sync_folder(output.absolute().parent)
    except OSError as error:
        raise SeaAnchorError(
            f"{output} could not be written: {error.strerror or error}",
            "free space in a folder that can be written",
            "free some and give the same command again, or name another --output",
        ) from error


def check_free(output: Path) -> None:
    """Fail where a folder cannot take the place of `output`.

    Raises:
        SeaAnchorError: it is a file, holds something, or is a disk of its own.
    """
    if output.exists() and not output.is_dir():
        found = "is a file"
    elif output.exists() and any(output.iterdir()):
        found = "is not empty"
    elif output.is_mount():
        found = "is a disk of its own, which nothing can be renamed to"
    else:
        return
    raise SeaAnchorError(f"{output} {found}", "a new or empty folder", "name another --output")


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
