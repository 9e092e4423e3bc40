"""Embeddings of a whole data set by a frozen encoder, from the cache where it has them.

Legend: N images, V variants, D embedding dimension.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from seaanchor.attacks import drawing, fonts
from seaanchor.data.fingerprint import identity_of, still_unreadable
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import Images, labels_of, pairs_of
from seaanchor.encoders import embedding_table
from seaanchor.encoders.embedding_table import EmbeddingTable, embed_all, embed_drawings
from seaanchor.encoders.encoder import Encoder, Family, LoadedModel, Reference
from seaanchor.encoders.fingerprint import image_side
from seaanchor.perturbations import typographic
from seaanchor.perturbations.typographic import Typographic
from seaanchor.types import Batch, Perturbation
from seaanchor.utils import disk_cache

CLEAN, DRAWN = "images", "drawings"  # kinds of entries


def clean_table(
    reference: Reference, family: Family, images: Images, batch_size: int, workers: int, device: torch.device
) -> Tensor:
    """Embeddings (N, D) of every image by a frozen encoder; rows of unreadable images are 0. Arguments as for
    `clean_entry`."""
    return clean_entry(reference, family, images, batch_size, workers, device)["embedding"].to(device)


def clean_entry(
    reference: Reference, family: Family, images: Images, batch_size: int, workers: int, device: torch.device
) -> disk_cache.Entry:
    """`embedding` (N, D) of every image by a frozen encoder, and whether each could be `read` (N,); rows of unreadable
    images are 0.

    Args:
        reference: the encoder, on `device`.
        family: its library.
        images: the data set.
        batch_size, workers: how it is read, which changes nothing but rounding.
        device: where the encoder computes.
    """
    dataset = ImageDataset(images, reference.encoder.preprocessing)

    def compute() -> disk_cache.Entry:
        read_N = torch.zeros(len(dataset), dtype=torch.bool)
        stream = batches(dataset, batch_size, workers=workers, order=None, skip_log=SkipLog(images))
        return {"embedding": embed_all(reference, _noting(stream, read_N), len(dataset), device), "read": read_N}

    def accept(entry: disk_cache.Entry) -> bool:
        return still_unreadable(dataset, entry["read"], SkipLog(images))

    return disk_cache.get_or_compute(CLEAN, lambda: describe(reference.encoder, family, images), compute, accept)


def clean_rows(
    model: LoadedModel,
    dataset: ImageDataset,
    compute: Callable[[], dict[str, Tensor] | None],
    first: bool,
    agree: Callable[[Any], Any],
) -> dict[str, Tensor] | None:
    """The same as columns without the images that could not be read: `index` (M,) in order and `embedding` (M, D).

    Args:
        model: whose encoder it is, which lies where it computes.
        dataset: the images.
        compute: the columns, by all processes together; None in all but the first.
        first: whether this is the first process, which alone looks into the cache.
        agree: a value → the first process's.

    Returns:
        None in all processes but the first.
    """

    def described() -> list[object] | None:
        return (
            describe(model.encoder, model.family, dataset.images)
            if first and disk_cache.location() is not None
            else None
        )

    before = described()
    entry = None if before is None else disk_cache.read(CLEAN, disk_cache.key(before))
    if entry is not None and not still_unreadable(dataset, entry["read"], SkipLog(dataset.images)):
        entry = None
    if agree(entry is not None):
        return (
            None
            if entry is None
            else {"index": (index := entry["read"].nonzero().flatten()), "embedding": entry["embedding"][index]}
        )
    table = compute()
    if table is not None and before is not None and described() == before:
        embedding_ND = torch.zeros(len(dataset), table["embedding"].shape[1])
        embedding_ND[table["index"]] = table["embedding"]
        read_N = torch.zeros(len(dataset), dtype=torch.bool)
        read_N[table["index"]] = True
        disk_cache.write(CLEAN, disk_cache.key(before), {"embedding": embedding_ND, "read": read_N})
    return table


def drawn_table(
    reference: Reference,
    family: Family,
    images: Images,
    perturbation: Perturbation,
    batch_size: int,
    workers: int,
    device: torch.device,
    skip_log: SkipLog,
) -> EmbeddingTable:
    """As `embed_drawings`: every image, and every drawing that a `Typographic` perturbation can give it; what cannot be
    read goes to the log."""
    dataset = ImageDataset(images, reference.encoder.preprocessing)

    def compute() -> disk_cache.Entry:
        stream = batches(dataset, batch_size, workers=workers, order=None, skip_log=skip_log)
        table = embed_drawings(reference, stream, len(dataset), reference.encoder.dim, perturbation, device)
        return {field.name: values for field in fields(table) if (values := getattr(table, field.name)) is not None}

    def depends_on() -> list[object] | None:
        pixels = describe(reference.encoder, family, images)
        return None if pixels is None else [pixels, labels_of(images), pairs_of(images), _drawing(perturbation)]

    entry = disk_cache.get_or_compute(
        DRAWN, depends_on, compute, lambda entry: still_unreadable(dataset, entry["read_N"], skip_log)
    )
    columns: dict[str, Any] = dict.fromkeys(field.name for field in fields(EmbeddingTable))
    return EmbeddingTable(**columns | {name: tensor.to(device) for name, tensor in entry.items() if name in columns})


def describe(encoder: Encoder, family: Family, images: Images) -> list[object] | None:
    """JSON values of all that clean embeddings depend on, None if the images cannot be identified."""
    pixels = identity_of(images, encoder.preprocessing)
    return None if pixels is None else [image_side(encoder, family), pixels]


def _drawing(perturbation: Perturbation) -> list[object] | None:
    if not isinstance(perturbation, Typographic):
        return None
    files = disk_cache.code(*fonts.font_files(perturbation.fonts))
    return [asdict(perturbation), files, disk_cache.code(drawing, fonts, typographic, embedding_table)]


def _noting(stream: Iterable[Batch], read_N: Tensor) -> Iterator[Batch]:
    """The same batches; sets which images came."""
    for batch in stream:
        read_N[batch.index_B] = True
        yield batch
