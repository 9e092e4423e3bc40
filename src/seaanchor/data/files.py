"""Image files below a folder: known by their endings, else by how they begin. Links are followed, hidden files and
folders are not seen, and whatever looks like an image and is none is named."""

import os
from dataclasses import dataclass
from pathlib import Path

from seaanchor.data.images import EXTENSIONS
from seaanchor.errors import note
from seaanchor.utils.plain_files import disk_error

_OTHER_KINDS = """
.txt .json .jsonl .xml .csv .tsv .md .rst .yaml .yml .toml .ini .cfg .log .html .htm .py .sh .ipynb .doc .docx .pdf
.mat .npy .npz .pkl .pickle .pt .pth .bin .safetensors .parquet .arrow .h5 .hdf5 .db .sqlite .lmdb .cls .idx .lnk .url
.zip .tar .tgz .gz .bz2 .xz .7z .rar .mp4 .avi .mov .mkv .webm .wav .mp3 .flac .md5 .sha256 .bak .tmp .part
"""
_OTHER_NAMES = "readme license licence copying notice authors citation changelog makefile checksums"
_CAMERA_RAW = ".dng .nef .cr2 .cr3 .arw .raf .orf .rw2 .raw"
OTHER_KINDS = frozenset(_OTHER_KINDS.split())
"""Endings of files that nobody takes for images; they are left out without a word."""
OTHER_NAMES = frozenset(_OTHER_NAMES.split())
CAMERA_RAW = frozenset(_CAMERA_RAW.split())
"""Endings of pictures of which Pillow reads the thumbnail, if anything."""
SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"})
HEAD = 16  # bytes that tell
BEGINNINGS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000
    b"\xff\x4f\xff\x51",
)


@dataclass(frozen=True)
class FoundImages:
    """Images below a folder.

    Attributes:
        images: their paths, sorted.
        refused: a text for everything that looks like an image and cannot be one.
        folders: the folders that were looked through, each as (device, inode).
        subfolders: names of the folders directly inside.
    """

    images: tuple[Path, ...]
    refused: tuple[str, ...]
    folders: frozenset[tuple[int, int]]
    subfolders: frozenset[str]


def find_images(folder: Path, deep: bool = True) -> FoundImages:
    """List the images in a folder, and in the folders below it.

    A linked folder is looked through where the link is; each folder once, and none that holds `folder` itself.

    Raises:
        SeaAnchorError: a folder that may not be read.
    """
    images: list[Path] = []
    refused: list[str] = []
    seen: set[tuple[int, int]] = set()
    subfolders: frozenset[str] = frozenset()
    top = os.path.realpath(folder)
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            status = os.stat(here)
        except OSError as error:
            raise disk_error(error) from error
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        entries = visible(here)
        folders = [here / entry.name for entry in entries if is_folder(entry)]
        subfolders = subfolders if here != folder else frozenset(path.name for path in folders)
        for entry in entries:
            reason = "" if is_folder(entry) else _no_image(entry)
            if reason is None:
                images.append(here / entry.name)
            elif reason:
                refused.append(f"{(here / entry.name).relative_to(folder.parent)} {reason}")
        if deep:
            waiting += [path for path in sorted(folders, reverse=True) if not _leads_back(path, top)]
    return FoundImages(tuple(sorted(images)), tuple(sorted(refused)), frozenset(seen), subfolders)


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, without what is hidden and what systems leave behind.

    Raises:
        SeaAnchorError: it may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise disk_error(error) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads nowhere, or to itself, is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file or folder, or of one that a system left behind (`._a.jpg`,
    `__MACOSX`)."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_image_name(name: str) -> bool:
    """Whether a file of this name is an image by its ending."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not is_hidden(name)


def path_below(name: str, root: Path) -> Path:
    """Where an image of somebody's list lies.

    Args:
        name: as it is written there.
        root: the list's folder, which it must not leave.

    Raises:
        ValueError: an address, an absolute path elsewhere, or one through a parent folder.
    """
    if "://" in name:
        raise ValueError(f"its image {name[:80]!r} is an address; only pictures and files are read")
    path = Path(name)
    inside = not path.is_absolute() or any(path.is_relative_to(top) for top in (root.absolute(), root.resolve()))
    if not inside or ".." in path.parts:
        raise ValueError(f"its image {name[:80]!r} leads out of {root}")
    return root / path


def file_below(name: str, root: Path) -> Path:
    """The same for a regular file that is there: no folder, pipe or device.

    Raises:
        ValueError: as `path_below`, or there is none, or no disk takes its name.
    """
    path = path_below(name, root)
    try:
        there = path.is_file()
    except OSError as error:
        raise ValueError(f"its image {name[:80]!r}: {error.strerror}") from error
    if not there:
        raise ValueError(f"its image {name[:80]!r} is {'no regular file' if path.exists() else 'missing'}")
    return path


def _leads_back(path: Path, top: str) -> bool:
    """Whether a link leads to a folder that holds `top`, whose other parts would be taken for its own."""
    if not path.is_symlink():
        return False
    target = os.path.realpath(path)
    back = os.path.commonpath([target, top]) == target
    if back:
        note(f"the link {path} leads back to {target} and is not followed")
    return back


def _no_image(entry: os.DirEntry[str]) -> str | None:
    """None for an image, why a file is none, or nothing to say of a file of another kind."""
    stem, ending = os.path.splitext(entry.name.lower())
    if ending in OTHER_KINDS or stem in OTHER_NAMES:
        return ""
    if not (os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()):
        return f"is a link to {os.readlink(entry.path)}, which is missing" if entry.is_symlink() else "is no file"
    if ending in EXTENSIONS or (ending not in CAMERA_RAW and begins_as_image(Path(entry.path))):
        return None
    return f"is no image of a kind that is read ({ending or 'no ending'})"


def begins_as_image(path: Path) -> bool:
    """Whether the first bytes are those of a JPEG, PNG, WebP, AVIF, JPEG 2000, GIF, TIFF or BMP; a file that cannot be
    opened is none."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        return is_image_head(head, path.stat().st_size)
    except OSError:
        return False


def is_image_head(head: bytes, size: int) -> bool:
    """Whether a file of this size, in bytes, that begins so is an image. For the formats see `begins_as_image`."""
    if head.startswith(BEGINNINGS):
        return True
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    avif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    return webp or avif or (head[:2] == b"BM" and int.from_bytes(head[2:6], "little") == size)
