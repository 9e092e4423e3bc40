"""State on disk: atomic, safetensors only, nothing is ever unpickled.

A state is a nested dict or list whose leaves are tensors or JSON values. Tensors go to one safetensors file, the
skeleton into its header, so that one rename commits both.
"""

import contextlib
import mmap
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from glob import escape
from hashlib import blake2b
from pathlib import Path
from socket import gethostname

from torch import Tensor

from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.json_text import to_json
from seaanchor.utils.plain_files import parse_json

_TENSOR = "__tensor__"
CHECKED, OLD = "checked_state", "state"
"""Keys of the skeleton in the header, of files with a checksum and of older ones without: no flipped bit makes one of
the other."""
SUM, KIND, EMPTY = "checksum", "checksum_kind", "00000000"


def _flatten(node: object, path: str, tensors: dict[str, Tensor]) -> object:
    if isinstance(node, Tensor):
        while path in tensors:  # {"a.b": ..., "a": {"b": ...}}
            path += "'"
        tensors[path] = node.detach().contiguous().cpu().clone()
        return {_TENSOR: path}
    if isinstance(node, dict):
        return {"d": [[k, _flatten(v, f"{path}.{k}", tensors)] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return {"l": [_flatten(v, f"{path}.{i}", tensors) for i, v in enumerate(node)]}
    return {"v": node}


def _unflatten(node: dict, tensors: dict[str, Tensor]) -> object:
    if _TENSOR in node:
        return tensors[node[_TENSOR]]
    if "d" in node:
        return {k: _unflatten(v, tensors) for k, v in node["d"]}
    if "l" in node:
        return [_unflatten(v, tensors) for v in node["l"]]
    return node["v"]


def tensors_in(node: object) -> Iterator[Tensor]:
    """All tensors of a state, in order."""
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, dict | list | tuple):
        for child in node.values() if isinstance(node, dict) else node:
            yield from tensors_in(child)


def save_state(path: Path, state: dict) -> None:
    """Write `state` with a checksum to `path`, so that a kill at any moment leaves either the old file or the new one.

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _flatten(state, "", tensors)
    write_checked(path, tensors, {CHECKED: to_json(skeleton)})


def load_state(path: Path, *, unchecked: bool = True) -> dict:
    """Read what `save_state` wrote.

    Args:
        path: the file.
        unchecked: whether a file of an older version, which has no checksum, will do; a note says so. A damaged file
            is never taken for one.

    Raises:
        SeaAnchorError: the file is no such state, is cut short, or is not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        check_sum(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        if CHECKED in metadata:
            skeleton = metadata[CHECKED]
        elif unchecked:
            skeleton = metadata[OLD]
            note(f"{path} was written by an older version and has no checksum: damage would not be noticed")
        else:
            raise KeyError("no checksum")
        return _unflatten(parse_json(skeleton), tensors)  # type: ignore[return-value]
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise SeaAnchorError(
            found=f"{path} does not hold a checkpoint ({error})",
            expected="a file that Sea Anchor wrote as a whole",
            change="remove it to go on from the checkpoint before it",
        ) from error


def write_checked(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with a checksum of every byte of it, which `check_sum` compares. The same content gives
    the same bytes.

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save

    saved = memoryview(save(dict(tensors), metadata={**metadata, SUM: EMPTY, KIND: "crc32"}))
    size = 8 + int.from_bytes(saved[:8], "little")
    header, values = _in_order(bytes(saved[8:size])), saved[size:]
    at, end = _place_of_sum(memoryview(header)) or (0, 0)
    checksum = f"{zlib.crc32(values, zlib.crc32(header)):08x}".encode()

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.writelines((header[:at], checksum, header[end:], values))

    write_atomic(path, write)


def _in_order(header: bytes) -> bytes:
    """The beginning of a safetensors file, with metadata by name: the library writes them in an order of chance."""
    described = parse_json(header.decode())
    described["__metadata__"] = dict(sorted(described["__metadata__"].items()))
    text = to_json(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def check_sum(path: Path) -> bool:
    """Compare a safetensors file with the checksum in it, wherever a bit may have flipped.

    Returns:
        Whether it has one; files of other libraries and of older versions do not.

    Raises:
        ValueError: it is not what was written.
        OSError: it cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole, memoryview(whole) as d:
        place = _place_of_sum(d)
        if place is None:
            return False
        at, end = place
        expected = zlib.crc32(d[end:], zlib.crc32(EMPTY.encode(), zlib.crc32(d[:at])))
        found = bytes(d[at:end])
    if found != f"{expected:08x}".encode():
        raise ValueError("its checksum is wrong: it was damaged after it was written")
    return True


def _place_of_sum(data: memoryview) -> tuple[int, int] | None:
    """Where the checksum's digits lie in the header; None for a file without one. Two keys announce it, so that damage
    to one of them does not hide it."""
    header = bytes(data[: 8 + min(int.from_bytes(data[:8], "little"), len(data))])
    before, kind = f'"{SUM}":"'.encode(), f'"{KIND}":"crc32"'.encode()
    at = header.find(before)
    if at < 0 and kind not in header:
        return None
    if at < 0 or kind not in header:
        raise ValueError("what it says of its checksum is damaged")
    return at + len(before), at + len(before) + len(EMPTY)


def write_atomic(path: Path, data: bytes | str | Callable[[Path], None]) -> None:
    """Write beside `path`, flush to disk, rename over it, and flush the folder, so that the new name outlives a power
    cut.

    Args:
        path: the file.
        data: its content, or what writes it to the path it is given. Text is written as UTF-8, and what is none of it,
            as in the names of some files, as JSON's `\\udce9`.

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written; the file that was there is untouched.
    """
    partial = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{os.urandom(4).hex()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        if callable(data):
            partial.touch()  # with the permissions that the user gives to new files
            mode = partial.stat().st_mode
            data(partial)
            _set_mode(partial, mode)
        else:
            partial.write_bytes(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        size = "" if callable(data) else f"{len(data) / 1e6:.1f} MB of "
        raise SeaAnchorError(
            found=f"{path} could not be written: {error.strerror or error}",
            expected=f"{size}free space in a folder that can be written",
            change="free some space or name another output folder; what was there before is intact",
        ) from error


@cache
def _machine() -> str:
    """A short name of what process numbers are unique in: on a shared disk machines and containers have the same."""
    space = "/proc/self/ns/pid"
    return blake2b(
        f"{gethostname()} {os.path.lexists(space) and os.readlink(space)}".encode(), digest_size=4
    ).hexdigest()


def _remove_orphans(path: Path) -> None:
    """Remove what processes that are gone left of earlier attempts to write a file."""
    for other in path.parent.glob(f".{escape(path.name)}.*-*-*.partial"):
        machine, number, _ = other.name.removesuffix(".partial").rpartition(".")[2].split("-")
        if machine == _machine() and number.isdecimal() and not _lives(int(number)):
            other.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    if os.name == "nt":  # where no signal can ask
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


def give_usual_permissions(files: Iterable[Path]) -> None:
    """Give files the permissions that this user's new files have in their folder: some libraries write weights that
    nobody else may read, so that others could not use an export or a cache that they share.

    Raises:
        OSError: the folder cannot be written.
    """
    for file in files:
        sample = file.with_name(f".{file.name}.{os.getpid()}-{os.urandom(4).hex()}.partial")
        try:
            sample.touch()
            _set_mode(file, sample.stat().st_mode)
        finally:
            sample.unlink(missing_ok=True)


def _set_mode(file: Path, mode: int) -> None:
    with contextlib.suppress(PermissionError):  # of a system without such permissions
        if file.stat().st_mode != mode:
            file.chmod(stat.S_IMODE(mode))


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, where the system can do that."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
