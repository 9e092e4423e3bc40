"""State on disk: atomic, safetensors only, nothing is ever unpickled.

A state is a nested dict or list whose leaves are tensors or JSON values. Tensors go to one safetensors file, the
skeleton into its header, so that one rename commits both.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from seaanchor.errors import SeaAnchorError

_TENSOR = "__tensor__"


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
    """Write `state` to `path` so that a kill at any moment leaves either the old file or the new one.

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    skeleton = _flatten(state, "", tensors)
    write_atomic(path, save(tensors, metadata={"state": json.dumps(skeleton)}))


def load_state(path: Path) -> dict:
    """Read what `save_state` wrote.

    Raises:
        SeaAnchorError: the file is no such state, or is cut short.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
        return _unflatten(json.loads(metadata["state"]), tensors)  # type: ignore[return-value]
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise SeaAnchorError(
            found=f"{path} does not hold a checkpoint ({error})",
            expected="a file that Sea Anchor wrote as a whole",
            change="remove it to go on from the checkpoint before it",
        ) from error


def write_atomic(path: Path, data: bytes | str | Callable[[Path], None]) -> None:
    """Write beside `path`, flush to disk, rename over it.

    Args:
        path: the file.
        data: its content, or what writes it to the path it is given. Text is written as UTF-8, and what is none of it,
            as in the names of some files, as JSON's `\\udce9`.

    Raises:
        SeaAnchorError: the disk is full or the folder cannot be written; the file that was there is untouched.
    """
    partial = path.with_name(
        f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    )  # on a shared disk machines have the same numbers
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(data):
            data(partial)
        else:
            partial.write_bytes(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
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
