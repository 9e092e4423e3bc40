"""The cache on disk: what is computed once for all runs, each entry a safetensors file.

An entry's name is a digest of everything its tensors depend on. So nothing stale is ever asked for, whoever writes an
entry writes the same, and
runs and machines share a folder without locks: each file appears whole, by a rename. Nothing here can end a run: what
cannot be read is computed, what cannot be written is logged once.
"""

import contextlib
import hashlib
import os
import platform
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from seaanchor import __version__
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json
from seaanchor.utils.log import warn_once

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "SEAANCHOR_CACHE"
LIMIT = 20e9  # bytes; beyond it those entries go that were not used for longest
MAPPED = 64e6  # bytes; smaller entries are read into memory
DAY = 86_400.0
Entry = dict[str, "Tensor"]


@dataclass(frozen=True)
class Usage:
    """What lies in the cache: entries and bytes of each kind."""

    kind: str
    entries: int
    num_bytes: int


def location() -> Path | None:
    """`SEAANCHOR_CACHE`, else `seaanchor` below `XDG_CACHE_HOME` or ~/.cache; None if the variable says `off`, or
    there is no home folder."""
    named = os.environ.get(VARIABLE, "")
    if named.lower() == "off":
        return None
    if named:
        return Path(os.path.expanduser(named))
    home, shared = os.path.expanduser("~"), os.environ.get("XDG_CACHE_HOME", "")
    base = Path(shared) if os.path.isabs(shared) else Path(home) / ".cache"
    return base / "seaanchor" if base.is_absolute() else None


def code(*sources: ModuleType | Path) -> str:
    """A digest of modules' files, or of any, so that no entry outlives the code that computed it."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update((source if isinstance(source, Path) else Path(source.__file__ or "")).read_bytes())
    return digest.hexdigest()[:16]


def key(depends_on: object) -> str:
    """The name of the entry that depends on these JSON values, on this package's version and on torch's, and on the
    kind of machine."""
    import torch

    described = to_json([__version__, torch.__version__, machine(), depends_on], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:40]


@cache
def machine() -> tuple[str, ...]:
    """What of this machine decides how numbers are rounded: its processor and the instructions that torch uses of it,
    and its GPU. Machines that share a cache and are not alike have entries of their own."""
    import torch

    named = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return platform.machine(), named or platform.processor(), torch.backends.cpu.get_cpu_capability(), gpu


def get_or_compute(
    kind: str,
    describe: Callable[[], object],
    compute: Callable[[], Entry],
    accept: Callable[[Entry], bool] = lambda entry: True,
) -> Entry:
    """An entry of the cache, or what `compute` gives, which becomes that entry.

    Args:
        kind: folder of the entry.
        describe: JSON values of everything the entry depends on, None if that is unknown, and then nothing is stored;
            asked again after computing, and what changed meanwhile is not stored either.
        compute: the tensors.
        accept: whether an entry that was found will do.

    Returns:
        Tensors; large ones are memory maps of the entry's file, shared by all processes that read it, and the system
        may drop what it needs room for.
    """
    if location() is None or (depends_on := describe()) is None:
        return compute()
    name = key(depends_on)
    found = read(kind, name)
    if found is not None and accept(found):
        return found
    computed = compute()
    if key(describe()) == name and write(kind, name, computed) and _num_bytes(computed) > MAPPED:
        return read(kind, name) or computed  # so that the tables of many images need not stay in memory
    return computed


def read(kind: str, name: str) -> Entry | None:
    """The entry, None if there is none or if it is damaged; what was read counts as used now."""
    from safetensors import SafetensorError, safe_open

    if (folder := location()) is None:
        return None
    file = folder / kind / f"{name}.safetensors"
    try:
        with safe_open(file, framework="pt") as opened:
            # safe_open is no dict
            entry = {column: opened.get_tensor(column) for column in opened.keys()}  # noqa: SIM118
            sound = (opened.metadata() or {}).get("crc32") == _checksum(entry)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, SafetensorError) as error:
        warn_once(f"an entry of the cache in {folder} could not be read ({_short(error)}); it is computed again")
        return None
    if not sound:
        warn_once(f"an entry of the cache in {folder} is damaged; it is computed again")
        return None
    with contextlib.suppress(OSError):  # a folder that others own
        os.utime(file)
    return entry if _num_bytes(entry) > MAPPED else {column: values.clone() for column, values in entry.items()}


def write(kind: str, name: str, entry: Entry) -> bool:
    """Store an entry, and remove others to make room for it; returns whether it was stored."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if (folder := location()) is None:
        return False
    tensors = {column: values.detach().cpu().contiguous() for column, values in entry.items()}
    if _num_bytes(tensors) > LIMIT:
        warn_once(f"a table of more than {LIMIT / 1e9:.0f} GB is not kept in the cache")
        return False
    checksum = {"crc32": _checksum(tensors)}
    try:
        write_atomic(
            folder / kind / f"{name}.safetensors", lambda partial: save_file(tensors, partial, metadata=checksum)
        )
    except (SeaAnchorError, SafetensorError, OSError) as error:
        reason = _short(error.__cause__ or error)  # `write_atomic` names the entry, which differs each time
        warn_once(
            f"nothing is kept in the cache {folder}: {reason}. Name another folder by {VARIABLE}, or write "
            f"{VARIABLE}=off"
        )
        return False
    trim(folder)
    return True


def _num_bytes(entry: Entry) -> int:
    return sum(values.nbytes for values in entry.values())


def _checksum(entry: Entry) -> str:
    """Of all bytes: it finds what a broken disk does, at 7 GB/s."""
    import torch

    value = 0
    for column in sorted(entry):
        value = zlib.crc32(f"{column} {entry[column].dtype} {tuple(entry[column].shape)}".encode(), value)
        if entry[column].numel():
            value = zlib.crc32(entry[column].reshape(-1).view(torch.uint8).numpy().data, value)
    return str(value)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Entries and what killed runs left behind; another process may remove them while this one looks."""
    for file in folder.glob("*/*"):
        if file.suffix in (".safetensors", ".partial"):
            with contextlib.suppress(OSError):
                yield file, file.stat()


def trim(folder: Path, limit: float | None = None) -> None:
    """Remove what killed runs left, then the entries that were not used for longest, until at most `limit` bytes (by
    default `LIMIT`) are there."""
    entries = []
    for file, stat in _files(folder):
        if file.suffix == ".safetensors":
            entries.append((stat.st_mtime, stat.st_size, file))
        elif time.time() - stat.st_mtime > DAY:
            _remove(file)
    total = sum(size for _, size, _ in entries)
    for _, size, file in sorted(entries):
        if total <= (LIMIT if limit is None else limit):
            break
        _remove(file)
        total -= size


def usage() -> list[Usage]:
    """What lies in the cache, by kind; empty if it is off or nothing does."""
    folder = location()
    sizes: dict[str, list[int]] = {}
    for file, stat in _files(folder) if folder is not None else ():
        sizes.setdefault(file.parent.name, []).append(stat.st_size)
    return [Usage(kind, len(each), sum(each)) for kind, each in sorted(sizes.items())]


def clear() -> tuple[int, int]:
    """Remove every entry; how many files and bytes those were. Nothing else in the folder is touched.

    Raises:
        SeaAnchorError: one could not be removed.
    """
    folder, count, freed = location(), 0, 0
    for file, stat in list(_files(folder)) if folder is not None else []:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise SeaAnchorError(
                f"{file} could not be removed: {error.strerror}", "a folder that can be written", "ask its owner"
            ) from error
        count, freed = count + 1, freed + stat.st_size
    return count, freed


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def _short(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]


__all__ = [
    "LIMIT",
    "VARIABLE",
    "Entry",
    "Usage",
    "clear",
    "code",
    "get_or_compute",
    "key",
    "location",
    "read",
    "trim",
    "usage",
    "write",
]
