"""Near copies of held-out photos among photos to train on.

Legend: N photos, P pixels of a thumbnail.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seaanchor.errors import SeaAnchorError

SIDE = 16
TWIN = 8.0  # root of the mean square in grey levels: copies lie below 2.3, other pictures above 6.3, a few of which go
FLAT = 12.0  # standard deviation in grey levels: below it photos of nothing but sky look alike


def near_copies(files: Sequence[Path], held_out: Sequence[Path], cache: Path) -> list[int]:
    """Numbers of the files that show the same picture as a held-out one, mirrored copies included; of a held-out photo
    the centre square and the whole, squeezed into a square, are looked for.

    Photos with next to no contrast count as copies only where their bytes are the same.
    """
    if not files or not held_out:
        return []
    kept = cache / f"copies-{_key(files, held_out)}.npy"
    if not kept.exists():
        found = _near_copies(files, held_out, cache)
        _save(kept, np.array(found, np.int64))
    return np.load(kept).tolist()


def _near_copies(files: Sequence[Path], held_out: Sequence[Path], cache: Path) -> list[int]:
    train_NP = thumbnails(files, False, cache)
    held_NP = torch.cat([thumbnails(held_out, squeezed, cache) for squeezed in (False, True)])
    mirrored_NP = held_NP.view(-1, SIDE, SIDE).flip(-1).flatten(1)
    held_NP = torch.cat([held_NP, mirrored_NP])
    held_NP = held_NP[held_NP.std(1) > FLAT]
    found = list[int]()
    for start in range(0, len(train_NP) if len(held_NP) else 0, 4096):
        distance_NN = torch.cdist(train_NP[start : start + 4096], held_NP) / SIDE
        found += (torch.nonzero(distance_NN.amin(1) <= TWIN).flatten() + start).tolist()
    same = {digest(file) for file in held_out}
    sizes = {file.stat().st_size for file in held_out}
    return sorted({*found, *(i for i, f in enumerate(files) if f.stat().st_size in sizes and digest(f) in same)})


def _key(*parts: bool | Sequence[Path]) -> str:
    """A short name of lists of files, by their paths, sizes and times of change."""
    told = [str(part) if isinstance(part, bool) else [_stat(file) for file in part] for part in parts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _save(file: Path, array: np.ndarray) -> None:
    """Written aside and renamed: a run that is killed leaves no half file behind."""
    part = file.with_suffix(".part.npy")
    np.save(part, array)
    part.rename(file)


def _stat(file: Path) -> str:
    stat = file.stat()
    return f"{file} {stat.st_size} {stat.st_mtime_ns}"


def digest(file: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def thumbnails(files: Sequence[Path], squeezed: bool, cache: Path) -> Tensor:
    """Grey levels (N, P) of the centre square or of the whole photo, kept in the cache folder."""
    kept = cache / f"thumbnails-{_key(squeezed, files)}.npy"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor() as pool:
            small = list(pool.map(lambda file: _thumbnail(file, squeezed), files))
        broken = [str(result) for result in small if isinstance(result, SeaAnchorError)]
        if broken:
            listed = "\n".join(broken[:20]) + ("\n..." if len(broken) > 20 else "")
            raise SeaAnchorError(
                f"{len(broken)} of {len(files):,} photos cannot be read:\n{listed}",
                "photos",
                "replace or remove them, then give the same command again",
            )
        _save(kept, np.stack(small))
    return torch.from_numpy(np.load(kept)).float()


def _thumbnail(file: Path, squeezed: bool) -> np.ndarray | SeaAnchorError:
    try:
        image = opened(file, "L")
    except SeaAnchorError as error:
        return error
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (0, 0, image.width, image.height) if squeezed else (left, top, left + side, top + side)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX, box=box), np.uint8).flatten()


def opened(file: Path, mode: str = "RGB") -> Image.Image:
    """A photo, decoded.

    Raises:
        SeaAnchorError: it cannot be read.
    """
    try:
        with Image.open(file) as image:
            image.load()
            return image.convert(mode)
    except (OSError, ValueError, SyntaxError) as error:
        raise SeaAnchorError(
            f"{file} cannot be read: {error}", "a photo", "replace or remove it, then give the same command again"
        ) from error
