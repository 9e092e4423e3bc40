"""The identity of images, so that a changed one is never taken for what it was."""

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

import PIL
from torch import Tensor

from seaanchor.data import images as images_code
from seaanchor.data import in_memory as in_memory_code
from seaanchor.data import preprocessing
from seaanchor.data.huggingface.images import Row
from seaanchor.data.images import Item, num_bytes
from seaanchor.data.in_memory import DatasetItem
from seaanchor.data.loader import ImageDataset, SkipLog
from seaanchor.data.preprocessing import Preprocessing, preprocessing_of
from seaanchor.data.types import Listing
from seaanchor.data.webdataset.tar import Member
from seaanchor.utils import disk_cache

MEASURED = 10_000  # images whose sizes are asked for
READ_WHOLE = 256e6  # bytes of a data set up to which its images are identified by content


def identity_of(images: Listing, how: int | Preprocessing) -> list[object] | None:
    """JSON values of everything that the pixels of a list of images depend on, its order included.

    Images of up to `READ_WHOLE` bytes together are read whole. Of larger sets each file counts by path, size, and the
    times of its last change, of content (mtime) and of anything (ctime), to the nanosecond: no program can set the
    latter, so that a copy that keeps the old time is seen.

    Returns:
        None where neither is possible: large tables that name images outside themselves, and large data sets that a
        Python object holds.
    """
    sizes = [num_bytes(item) for item in images.paths]
    how = preprocessing_of(how)
    read = [
        disk_cache.code(images_code, preprocessing),
        PIL.__version__,
        _torchvision(how),
        str(how),
        len(images.paths),
    ]
    if any(isinstance(item, DatasetItem) for item in images.paths):
        read.append(disk_cache.code(in_memory_code))
    digest = hashlib.sha256()
    if sum(size or 0 for size in sizes) <= READ_WHOLE and not _outside(images, sizes):
        for item in images.paths:
            digest.update(_content(item))
        return [*read, "content", digest.hexdigest()]
    stats: dict[Path, str] = {}
    for item, size in zip(images.paths, sizes, strict=True):
        place = _place(item, size)
        if place is None:
            return None
        files, within = place
        for file in files:
            if file not in stats:
                stats[file] = _stat(file)
        digest.update(f"{[stats[file] for file in files]} {within}\n".encode())
    return [*read, "files", digest.hexdigest()]


def sizes_digest(images: Listing) -> str:
    """A short hash of how many bytes images take, `MEASURED` of them spread over the list where there are more: other
    images under the same names are seen in no time, on any disk and on any machine."""
    count = len(images.paths)
    chosen = range(count) if count <= MEASURED else [i * count // MEASURED for i in range(MEASURED)]
    sizes = [num_bytes(images.paths[i]) for i in chosen]
    return hashlib.sha256(str(sizes).encode()).hexdigest()[:16]


def still_unreadable(dataset: ImageDataset, read_N: Tensor, skip_log: SkipLog) -> bool:
    """Whether none of the images that could not be read before can be read now; those go to the log."""
    for index in (~read_N).nonzero().flatten().tolist():
        sample = dataset[index]
        if sample.pixels_CHW is not None:
            return False
        skip_log.add([(index, sample.reason)])
    return True


def _torchvision(how: Preprocessing) -> str:
    """Its version, where it resizes."""
    return version("torchvision") if how.backend == "torchvision" else ""


def _outside(images: Listing, sizes: list[int | None]) -> bool:
    """Whether a size may be that of a path in place of an image, so that the number of bytes to read is unknown."""
    return (
        any(isinstance(item, Row) and not size for item, size in zip(images.paths, sizes, strict=True))
        and len(images.paths) > 10_000
    )


def _content(item: Item) -> bytes:
    try:
        if isinstance(item, DatasetItem):
            return item.content()
        with item.open("rb") as file:
            return hashlib.sha256(file.read()).digest()
    except Exception as error:  # whatever is no image raises what it likes
        return f"{type(error).__name__} ".encode()


def _place(item: Item, size: int | None) -> tuple[tuple[Path, ...], str] | None:
    """The files that hold an item, and where in them it is."""
    if isinstance(item, Path):
        return (item,), ""
    if isinstance(item, Member):
        return (item.shard,), f"{item.offset} {item.size}"
    if isinstance(item, Row) and size:
        files = tuple(Path(file["filename"]) for file in item.table.data.cache_files)
        return (files, f"{item.table.column} {item.row}") if files else None
    return None


def _stat(file: Path) -> str:
    try:
        stat = file.stat()
    except OSError as error:
        return f"{os.path.abspath(file)} {type(error).__name__}"
    return f"{os.path.abspath(file)} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"
