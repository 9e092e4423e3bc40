"""Files of weights, opened without running anything that lies in them: what is in a file, or what it is called where it
holds no plain weights."""

import argparse
import hashlib
import pathlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError, said_by
from seaanchor.utils.checkpoint import CHECKED, OLD
from seaanchor.utils.plain_files import parse_json

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
BLOCK = 1 << 20  # bytes read at a time
PLAIN = "a .safetensors file, or a .pt with tensors only"
TORCH_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")  # with which torch.save began before it wrote archives
OTHER_BEGINNINGS = {
    b"version https://git-lfs": ("a Git LFS pointer and not the weights themselves", "fetch them: git lfs pull"),
    b"<": ("a web page", "download the weights again, and look at the page: it may ask to log in"),
    b"\x89HDF": ("an HDF5 file, as Keras writes it", "load it in Keras, and save the tensors with safetensors"),
    b"GGUF": ("a GGUF file with quantised weights", "take the weights that it was made from"),
    b"\x93NUMPY": ("a single numpy array", "save the model's state_dict"),
}
OTHER_SUFFIXES = {
    ".onnx": ("an ONNX graph", "take the weights that it was exported from"),
    ".msgpack": ("a Flax file", "load it in Flax, and save the tensors with safetensors"),
    ".gguf": OTHER_BEGINNINGS[b"GGUF"],
}


def open_weights(path: Path) -> Any:
    """What a .safetensors file, a .pt (whatever its ending) or the index of several such files holds; pickled
    code is never run.

    Raises:
        SeaAnchorError: the file is missing or broken, holds more than plain values, or is something else than weights.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no such file"
        raise SeaAnchorError(f"{path} is {kind}", f"a file with weights: {PLAIN}", "correct the path")
    with path.open("rb") as file:
        beginning = file.read(64)
    if not beginning:
        raise SeaAnchorError(f"{path} is empty", PLAIN, "download or copy it again")
    if path.name.endswith(".index.json"):
        return _parts(path)
    if _is_safetensors(path, beginning):  # first: the length that it begins with can look like any other beginning
        return _safetensors(path)
    if beginning[:1] == b"\x80" and TORCH_MAGIC not in beginning:
        change = "in the code that made it save the weights: torch.save(model.state_dict(), 'weights.pt')"
        raise SeaAnchorError(f"{path} is a Python pickle and not a file of torch.save", PLAIN, change)
    other = OTHER_SUFFIXES.get(path.suffix) or next(
        (called for start, called in OTHER_BEGINNINGS.items() if beginning.lstrip().startswith(start)), None
    )
    if other is not None:
        raise SeaAnchorError(f"{path} is {other[0]}", PLAIN, other[1])
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if zipfile.is_zipfile(path):
        _check_archive(path)
    return _pickled(path)


def find_weights(folder: Path, names: Sequence[str]) -> Path:
    """The weights of a folder: under a name that its library gives them, or the only file that can hold some.

    Args:
        folder: of a model.
        names: of files, the first that is there is taken.

    Raises:
        SeaAnchorError: there are none, or several files of other names.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES)
    if len(others) == 1:
        return others[0]
    found = sorted(path.name for path in folder.iterdir())[:5] if folder.is_dir() else []
    if others:
        raise SeaAnchorError(
            f"{folder} holds several files of weights: {', '.join(path.name for path in others[:5])}",
            f"one, or one of the name {names[0]}",
            f"rename the right one {names[0].replace('.safetensors', others[0].suffix)}, or remove the others",
        )
    raise SeaAnchorError(
        f"{folder} has no {names[0]} (it holds {', '.join(found) or 'nothing'})",
        "a folder with a model's configuration and weights",
        "export it again",
    )


def weights_digest(folder: Path) -> str:
    """A hash of a folder's files of weights and of their names, for which nothing is loaded."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file()):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _is_safetensors(path: Path, beginning: bytes) -> bool:
    """Whether a file of another ending is one: the length of a JSON header, and the header."""
    return beginning[8:9] == b"{" and int.from_bytes(beginning[:8], "little") < path.stat().st_size


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            if not {CHECKED, OLD} & set(file.metadata() or {}):
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    except Exception as error:  # cut short, or no such file at all
        raise unreadable(path, error) from error
    export = path.parent.parent / "export"
    change = f"name {export}" if export.is_dir() else "let the run finish (--resume auto) and name its export/"
    raise SeaAnchorError(
        f"{path} is a training checkpoint of Sea Anchor, with optimizer and multipliers",
        "a model: the run's folder export/, or export-averaged/",
        change,
    )


def _parts(index: Path) -> dict[str, Any]:
    """The tensors of all files that an index names."""
    try:
        files = sorted(set(parse_json(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(index, error) from error
    held: dict[str, Any] = {}
    for name in files:
        held |= open_weights(index.parent / Path(name).name)
    return held


def _check_archive(path: Path) -> None:
    """Raise if a zip file is something else than what torch.save writes."""
    with zipfile.ZipFile(path) as archive:
        inside = ["/".join(name.split("/")[1:]) or name for name in archive.namelist()]
    if any(name.startswith("code/") for name in inside) or "constants.pkl" in inside:
        convert = (
            "convert it, if you trust its maker: python -c \"import torch; torch.save(torch.jit.load('"
            f"{path}', map_location='cpu').state_dict(), '{path.stem}-weights.pt')\""
        )
        raise SeaAnchorError(f"{path} is a TorchScript archive: a program and not only weights", PLAIN, convert)
    if any(name.endswith(".npy") for name in archive.namelist()):
        change = "convert it with the library that made it, or take a tag of the same model"
        raise SeaAnchorError(f"{path} is an archive of numpy arrays, as JAX code writes it", PLAIN, change)
    if "data.pkl" not in inside:
        shown = ", ".join(sorted(archive.namelist())[:3])
        raise SeaAnchorError(f"{path} is a zip file with {shown or 'nothing'}", PLAIN, "unpack it, and name a file")


def _pickled(path: Path) -> Any:
    """What torch.save wrote: tensors and plain values, with the few harmless types that training scripts put beside
    them."""
    import numpy as np
    import torch

    scalar = getattr(np, "_core", None) or np.core
    harmless: list[Any] = [
        argparse.Namespace,
        pathlib.PosixPath,
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64")),
        (scalar.multiarray.scalar, "numpy.core.multiarray.scalar"),
        (scalar.multiarray.scalar, "numpy._core.multiarray.scalar"),
    ]
    try:
        with torch.serialization.safe_globals(harmless):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every format fails in its own way
        if classes := _classes(path, str(error)):
            raise _object(path, classes) from error
        raise unreadable(path, error) from error


def _classes(path: Path, reason: str) -> list[str]:
    """The classes and functions that a pickle asks for and that are no plain values."""
    import torch

    try:
        return [name for name in torch.serialization.get_unsafe_globals_in_checkpoint(path) if "numpy" not in name]
    except Exception:  # the format before 2020 cannot be listed
        return [reason.split("GLOBAL ")[1].split()[0]] if "GLOBAL " in reason else []


def _object(path: Path, classes: list[str]) -> SeaAnchorError:
    shown = ", ".join(sorted(classes, key=lambda name: name.startswith("torch."))[:3])
    convert = (
        "in the code that made it save the weights alone: torch.save(model.state_dict(), 'weights.pt'); its code runs "
        f"if you do: python -c \"import torch; m = torch.load('{path}', map_location='cpu', weights_only=False); "
        "torch.save(m.state_dict(), 'weights.pt')\""
    )
    return SeaAnchorError(f"{path} holds pickled objects ({shown}), which only their code can read", PLAIN, convert)


def unreadable(path: Path, error: Exception) -> SeaAnchorError:
    """The error for a file that is broken, or in a format that is not known."""
    return SeaAnchorError(f"{path} could not be read as weights ({said_by(error)})", PLAIN, "download or copy it again")
