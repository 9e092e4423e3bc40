"""Checksums of a folder's files, as `sha256sum` writes and reads them."""

import hashlib
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import give_usual_permissions, write_atomic

NAME = "SHA256SUMS"
CARD = "README.md"  # for people, who may go on writing it


def write_checksums(folder: Path) -> None:
    """Write a line for each file that lies in the folder itself, the model card apart; all of them get the permissions
    of this user's new files.

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in (NAME, CARD))
    try:
        give_usual_permissions(files)
    except OSError as error:
        raise SeaAnchorError(
            f"{folder} could not be written: {error.strerror}",
            "free space in a folder that can be written",
            "free some",
        ) from error
    write_atomic(folder / NAME, "".join(f"{_digest(path)}  {path.name}\n" for path in files))


def check_checksums(folder: Path) -> None:
    """Compare a folder's files with its list, if it has one. Files that are not listed are passed over.

    Raises:
        SeaAnchorError: a file is missing or is not what was written, or the list itself is damaged.
    """
    try:
        lines = (folder / NAME).read_bytes().decode("ascii", "surrogateescape").split("\n")
    except FileNotFoundError:
        return
    for line in lines[:-1] or [""]:
        digest, _, name = line.partition("  ")
        if not name or Path(name).name != name or not (folder / name).is_file() or _digest(folder / name) != digest:
            raise _changed(folder, name)
    if lines[-1]:
        raise _changed(folder, NAME)


def _changed(folder: Path, name: str) -> SeaAnchorError:
    return SeaAnchorError(
        f"{name or NAME} in {folder} is not what was written there",
        f"files with the checksums that {NAME} holds",
        f"copy or export the folder again; if you changed it on purpose, remove {NAME}",
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
