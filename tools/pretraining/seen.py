"""Which photos a model was pre-trained on, as hashes: enough to see whether a test set was among them, without the
photos.

A photo has two of 64 bits: the head of its file's SHA-256, and which of 8 x 8 cells of its centre square are brighter
than their median. Near copies differ in few bits of the second, mirrored ones after turning. Legend: N photos.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from seaanchor.errors import SeaAnchorError
from tools.pretraining.copies import FLAT, SIDE, thumbnails

BITS = 3  # that near copies may differ in


def write_seen(files: Sequence[Path], output: Path, cache: Path) -> None:
    """Write the hashes of photos (N, 2) uint64, in the order of their values."""
    looks_N = _looks(files, cache)[0]
    hashes_N2 = np.unique(np.stack([_digests(files), looks_N], 1), axis=0)
    output.parent.mkdir(parents=True, exist_ok=True)
    np.save(output, hashes_N2)


def among_seen(files: Sequence[Path], seen: Path, cache: Path) -> list[Path]:
    """Those of the photos that are among the hashes: the same file, or looks that differ in at most `BITS` bits,
    mirrored or not. Photos with next to no contrast count only as the same file.

    Raises:
        SeaAnchorError: no such file of hashes.
    """
    if not seen.is_file():
        raise SeaAnchorError(f"{seen} is missing", "hashes that pre-training wrote", "correct the path")
    digests_N, looks_N = np.load(seen).T
    same = np.isin(_digests(files), digests_N)
    looks, mirrored, flat = _looks(files, cache)
    near = [
        not flat[i] and bool(np.bitwise_count(looks_N[:, None] ^ both).min() <= BITS)
        for i, both in enumerate(np.stack([looks, mirrored], 1))
    ]
    return [file for i, file in enumerate(files) if same[i] or near[i]]


def _digests(files: Sequence[Path]) -> np.ndarray:
    def head(file: Path) -> int:
        return int.from_bytes(hashlib.sha256(file.read_bytes()).digest()[:8])

    with ThreadPoolExecutor() as pool:
        return np.array(list(pool.map(head, files)), np.uint64)


def _looks(files: Sequence[Path], cache: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes of looks (N,), those of the mirrored photos, and which photos are flat."""
    small = thumbnails(files, False, cache).view(-1, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)).numpy()
    flat = small.std((1, 2)) < FLAT
    return _packed(small), _packed(small[..., ::-1]), flat


def _packed(cells_N88: np.ndarray) -> np.ndarray:
    flat = cells_N88.reshape(len(cells_N88), -1)
    bits = flat > np.median(flat, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).flatten()
