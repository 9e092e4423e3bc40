"""Batches of images in any order, without those that cannot be read.

Legend: B batch, C channels, H W pixels, N images.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from seaanchor.data.images import Item, UnreadableImage, read_image
from seaanchor.data.in_memory import DatasetItem
from seaanchor.data.preprocessing import Preprocessing, preprocessing_of
from seaanchor.data.reading import by_processes, by_threads, check_workers, reading_threads
from seaanchor.data.resampling import prepare
from seaanchor.data.types import Images, ImagesT, Listing, labels_of, pairs_of, take
from seaanchor.errors import printable
from seaanchor.types import Batch, Preference


@dataclass(frozen=True)
class Sample:
    """One file read: pixels uint8 (C, H, W), or None and the reason."""

    index: int
    pixels_CHW: Tensor | None
    label: int
    reason: str = ""


@dataclass(frozen=True)
class Samples:
    """A batch read, with what had to be left out: (index, reason) each."""

    batch: Batch
    left_out: tuple[tuple[int, str], ...]

    def pin_memory(self) -> "Samples":
        """With pixels where a GPU can fetch them while others work: the data loader asks for this by name."""
        return replace(self, batch=replace(self.batch, pixels_BCHW=self.batch.pixels_BCHW.pin_memory()))


class ImageDataset(Dataset):
    """The images of a list as an encoder takes them; reading a bad file gives a sample without pixels, never an
    exception.

    Args:
        images: the list.
        how: the encoder's `preprocessing`, or S for OpenCLIP's default at S pixels.
    """

    def __init__(self, images: Images, how: int | Preprocessing) -> None:
        self.images, self.preprocessing = images, preprocessing_of(how)
        self.image_size = self.preprocessing.size
        self._labels = labels_of(images)

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, index: int) -> Sample:
        label = -1 if self._labels is None else self._labels[index]
        try:
            return Sample(index, _read(self.images.paths[index], self.preprocessing), label)
        except UnreadableImage as error:
            return Sample(index, None, label, str(error))


def _read(item: Item, how: Preprocessing) -> Tensor:
    return item.pixels(how) if isinstance(item, DatasetItem) else read_image(item, how)


def collate(samples: Sequence[Sample]) -> Samples:
    """Stack what could be read; pixels stay uint8 so that little crosses between processes, unless some are floats. A
    batch may come out empty."""
    read = [s for s in samples if s.pixels_CHW is not None]
    pixels = [s.pixels_CHW for s in samples if s.pixels_CHW is not None]
    if any(pixels_CHW.is_floating_point() for pixels_CHW in pixels):
        pixels = [to_float(pixels_CHW) for pixels_CHW in pixels]
    pixels_BCHW = _stack(pixels) if pixels else torch.empty(0, dtype=torch.uint8)
    labels = torch.tensor([s.label for s in read], dtype=torch.long)
    batch = Batch(pixels_BCHW, labels, torch.tensor([s.index for s in read], dtype=torch.long))
    return Samples(batch, tuple((s.index, s.reason) for s in samples if s.pixels_CHW is None))


def _stack(pixels: Sequence[Tensor]) -> Tensor:
    """As `torch.stack`, on one thread, so that who reads ahead does not take the step's cores."""
    return torch.from_numpy(np.stack([pixels_CHW.numpy() for pixels_CHW in pixels]))


@dataclass
class SkipLog:
    """Which images could not be read; each counts once however often it was tried."""

    images: Listing
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, left_out: Sequence[tuple[int, str]]) -> None:
        """Note what a batch left out."""
        self.reasons.update((index, self._placed(index, reason)) for index, reason in left_out)

    def _placed(self, index: int, reason: str) -> str:
        """The reason, which begins with the name of a file, with the path of that file below the root."""
        item, root = self.images.paths[index], self.images.root
        if not isinstance(item, Path) or not item.is_relative_to(root):
            return reason
        return f"{item.relative_to(root)}{reason.removeprefix(item.name)}" if reason.startswith(item.name) else reason

    def summary(self) -> str:
        """One line for the user, empty if every image could be read."""
        root, damaged, reasons, said = (
            self.images.root,
            self.images.damaged,
            [*self.images.refused, *self.reasons.values()],
            [],
        )
        if reasons:
            total = len(self.images.paths) + len(self.images.refused)
            said.append(
                f"{len(reasons)} of {total} images in {root} could not be read and were skipped "
                f"({'; '.join(reasons[:3])})"
            )
        if damaged is not None:
            lost = (
                f"{len(damaged.reasons)} of {damaged.shards} shards in {root} are missing or damaged, with an "
                "unknown number of images"
            )
            said.append(f"{lost} ({'; '.join(damaged.reasons[:3])})")
        return printable("; ".join(said))


def batches(
    dataset: ImageDataset, batch_size: int, *, workers: int, order: Sequence[int] | None, skip_log: SkipLog
) -> Iterator[Batch]:
    """Batches in the given order (the list's own if None): pixels (B, C, H, W) float in [0, 1], labels or None,
    indices.

    Every `batch_size` indices give one batch, which is smaller, or empty, where images could not be read.
    """
    order = range(len(dataset)) if order is None else order
    for batch in chosen_batches(
        dataset,
        [order[i : i + batch_size] for i in range(0, len(order), batch_size)],
        workers=workers,
        skip_log=skip_log,
    ):
        yield replace(batch, pixels_BCHW=to_float(batch.pixels_BCHW))


def to_float(pixels_BCHW: Tensor) -> Tensor:
    """Pixels in [0, 1] of 8-bit ones, on their device; floats stay. A GPU multiplies by the reciprocal of a number that
    comes from the host, which
    differs in the last bit: the 255 is put beside the pixels, so that every device gives the same images."""
    if pixels_BCHW.dtype != torch.uint8:
        return pixels_BCHW
    return pixels_BCHW.float().div_(torch.full((), 255.0, device=pixels_BCHW.device))


def chosen_batches(
    dataset: ImageDataset, chunks: Sequence[Sequence[int]], *, workers: int, skip_log: SkipLog
) -> Iterator[Batch]:
    """A batch of each list of indices, as `batches` gives them, but with 8-bit pixels, a quarter of the bytes on the
    way to a GPU: `to_float` there."""
    check_workers(workers)
    pairs, labelled = pairs_of(dataset.images), labels_of(dataset.images) is not None
    pairs_N2 = None if pairs is None else torch.tensor(pairs)
    for samples in _read_all(dataset, chunks, workers):
        skip_log.add(samples.left_out)
        batch = samples.batch
        pixels_BCHW = batch.pixels_BCHW.view(
            len(batch.index_B), 3, dataset.image_size, dataset.image_size
        )  # even if B is 0
        preference = None if pairs_N2 is None else Preference(*pairs_N2[batch.index_B].T)
        yield Batch(pixels_BCHW, batch.label_B if labelled else None, batch.index_B, preference)


def _read_all(dataset: ImageDataset, chunks: Sequence[Sequence[int]], workers: int) -> Iterator[Samples]:
    """Batches in order, read ahead by threads or processes. What a `Dataset` of others holds is not read by a thread:
    its code may not expect one, and may draw from the global random state."""
    items, count = dataset.images.paths, sum(len(chunk) for chunk in chunks)
    foreign = count > 0 and isinstance(items[next(i for chunk in chunks for i in chunk)], DatasetItem)
    if not foreign:
        prepare(count, lambda: dataset[next(i for chunk in chunks for i in chunk)])
    if workers > 0:
        return by_processes(dataset, chunks, collate, workers)
    together = _collate_pinned if torch.cuda.is_available() else collate
    return by_threads(dataset.__getitem__, chunks, together, 0 if foreign else reading_threads())


def _collate_pinned(samples: Sequence[Sample]) -> Samples:
    return collate(samples).pin_memory()


def training_order(count: int, epoch: int, seed: int) -> list[int]:
    """A permutation that depends on seed and epoch alone."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)).tolist()


def subset(images: ImagesT, limit: int, seed: int) -> ImagesT:
    """At most `limit` images in list order, as many of each class as it allows; drawn with `seed`."""
    if limit >= len(images.paths):
        return images
    rng, labels = random.Random(seed), labels_of(images)
    by_class: dict[int, list[int]] = defaultdict(list)
    for i in range(len(images.paths)):
        by_class[0 if labels is None else labels[i]].append(i)
    ranked = []
    for members in by_class.values():
        rng.shuffle(members)
        ranked += [(rank, rng.random(), i) for rank, i in enumerate(members)]
    return take(images, sorted(i for _, _, i in sorted(ranked)[:limit]))
