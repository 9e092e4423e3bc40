"""Folders of images: listing, class names, and batches that leave out what cannot be read.

Legend: B batch, C channels, H W pixels.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from seaanchor.data.images import EXTENSIONS, UnreadableImage, read_image
from seaanchor.data.names import read_class_names
from seaanchor.data.types import ClassifiedImages, Images, ImagesT, Listing, UnlabelledImages, labels_of, pairs_of, take
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Batch, Preference

SPLITS = frozenset({"train", "val", "valid", "validation", "test"})


def list_images(root: Path, class_names: Path | None = None) -> UnlabelledImages | ClassifiedImages:
    """List a folder of images (unlabelled), of class folders (labelled), or Tiny-ImageNet's `train` and `val`.

    Args:
        root: the folder.
        class_names: file with names, as `read_class_names` takes it; by default the folders' own names, `_` read as a
            space.

    Raises:
        SeaAnchorError: no such folder, nothing in it, a class folder without images, or a folder of splits.
    """
    if not root.is_dir():
        raise SeaAnchorError(
            f"{root} is {'a file' if root.exists() else 'missing'}",
            "a folder of images or of class folders",
            "correct the path",
        )
    if (root / "val_annotations.txt").is_file():
        return _tiny_imagenet_val(root, class_names)
    folders = sorted(d for d in root.iterdir() if d.is_dir() and not d.name.startswith("."))
    if folders and {d.name for d in folders} <= SPLITS:
        raise SeaAnchorError(
            f"{root} holds the splits {', '.join(d.name for d in folders)}",
            "one split",
            f"name one, such as {folders[0]}",
        )
    loose = _image_files(root, deep=False)
    if not folders or (loose and all(not _image_files(d) for d in folders)):
        if not loose:
            raise SeaAnchorError(
                f"no image in {root}", f"files ending in {', '.join(sorted(EXTENSIONS))}", "name another folder"
            )
        return UnlabelledImages(root, tuple(loose))
    paths, labels, empty = [], [], []
    for label, folder in enumerate(folders):
        files = _image_files(folder)
        paths += files
        labels += [label] * len(files)
        empty += [] if files else [folder.name]
    if empty:
        raise SeaAnchorError(
            f"{len(empty)} class folder(s) of {root} without images: {', '.join(empty[:5])}",
            "at least one image in every class folder",
            "fill or remove them",
        )
    refused = tuple(f"{file.name} lies in no class folder" for file in loose)
    return ClassifiedImages(
        root, tuple(paths), tuple(labels), _names([d.name for d in folders], class_names, root.parent), refused=refused
    )


def _image_files(folder: Path, deep: bool = True) -> list[Path]:
    files = folder.rglob("*") if deep else folder.iterdir()
    return sorted(f for f in files if f.suffix.lower() in EXTENSIONS and not f.name.startswith(".") and f.is_file())


def _tiny_imagenet_val(root: Path, class_names: Path | None) -> ClassifiedImages:
    rows = [line.split("\t")[:2] for line in (root / "val_annotations.txt").read_text().splitlines() if line.strip()]
    if not rows or any(len(row) < 2 for row in rows):
        raise SeaAnchorError(
            f"{root / 'val_annotations.txt'} is no annotation table",
            "rows of file, tab, class folder",
            "unpack the data set again",
        )
    folders = sorted({folder for _, folder in rows})
    number = {folder: i for i, folder in enumerate(folders)}
    paths = tuple(root / "images" / file for file, _ in rows)
    return ClassifiedImages(
        root, paths, tuple(number[folder] for _, folder in rows), _names(folders, class_names, root.parent)
    )


def _names(folders: Sequence[str], class_names: Path | None, parent: Path) -> tuple[str, ...]:
    if class_names is not None:
        return read_class_names(class_names, folders)
    words = parent / "words.txt"
    if words.is_file() and all(len(f) == 9 and f.startswith("n") and f[1:].isdigit() for f in folders):
        synonyms = dict(line.split("\t", 1) for line in words.read_text().splitlines() if "\t" in line)
        return tuple(synonyms[f].split(",")[0].strip().lower() if f in synonyms else f for f in folders)
    return tuple(f.replace("_", " ") for f in folders)


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


class FolderDataset(Dataset):
    """The images of a list at S pixels; reading a bad file gives a sample without pixels, never an exception."""

    def __init__(self, images: Images, image_size: int) -> None:
        self.images, self.image_size = images, image_size
        self._labels = labels_of(images)

    def __len__(self) -> int:
        return len(self.images.paths)

    def __getitem__(self, index: int) -> Sample:
        label = -1 if self._labels is None else self._labels[index]
        try:
            return Sample(index, read_image(self.images.paths[index], self.image_size), label)
        except UnreadableImage as error:
            return Sample(index, None, label, str(error))


def collate(samples: Sequence[Sample]) -> Samples:
    """Stack what could be read; pixels stay uint8 so that little crosses between processes. A batch may come out
    empty."""
    read = [s for s in samples if s.pixels_CHW is not None]
    # None is left out
    pixels = torch.stack([s.pixels_CHW for s in read]) if read else torch.empty(0, dtype=torch.uint8)  # type: ignore[misc]
    labels = torch.tensor([s.label for s in read], dtype=torch.long)
    batch = Batch(pixels, labels, torch.tensor([s.index for s in read], dtype=torch.long))
    return Samples(batch, tuple((s.index, s.reason) for s in samples if s.pixels_CHW is None))


@dataclass
class SkipLog:
    """Which images could not be read; each counts once however often it was tried."""

    images: Listing
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, left_out: Sequence[tuple[int, str]]) -> None:
        """Note what a batch left out."""
        self.reasons.update(left_out)

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
        return "; ".join(said)


def batches(
    dataset: FolderDataset, batch_size: int, *, workers: int, order: Sequence[int] | None, skip_log: SkipLog
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
    dataset: FolderDataset, chunks: Sequence[Sequence[int]], *, workers: int, skip_log: SkipLog
) -> Iterator[Batch]:
    """A batch of each list of indices, as `batches` gives them, but with 8-bit pixels, a quarter of the bytes on the
    way to a GPU: `to_float` there."""
    own_rng = (
        torch.Generator()
    )  # or the loader would draw its seed from the global state, which training must be able to restore
    lists, pin = [list(chunk) for chunk in chunks], torch.cuda.is_available()
    loader = DataLoader(
        dataset, batch_sampler=lists, num_workers=workers, collate_fn=collate, generator=own_rng, pin_memory=pin
    )
    pairs, labelled = pairs_of(dataset.images), labels_of(dataset.images) is not None
    pairs_N2 = None if pairs is None else torch.tensor(pairs)
    for samples in loader:
        skip_log.add(samples.left_out)
        batch = samples.batch
        pixels_BCHW = batch.pixels_BCHW.view(
            len(batch.index_B), 3, dataset.image_size, dataset.image_size
        )  # even if B is 0
        preference = None if pairs_N2 is None else Preference(*pairs_N2[batch.index_B].T)
        yield Batch(pixels_BCHW, batch.label_B if labelled else None, batch.index_B, preference)


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


__all__ = [
    "FolderDataset",
    "SkipLog",
    "batches",
    "chosen_batches",
    "collate",
    "list_images",
    "read_class_names",
    "subset",
    "to_float",
    "training_order",
]
