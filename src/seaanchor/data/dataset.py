"""A torch `Dataset` or `DataLoader` as a listing of images.

Legend: N images, C classes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from operator import index as as_index
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from seaanchor.data.in_memory import DatasetItem, MapStyle, parts_of, raw_bytes, to_pixels
from seaanchor.data.name_pairing import clean_names, note_numbers, pair_names
from seaanchor.data.names import note_unused
from seaanchor.data.samplers import dataset_of
from seaanchor.data.types import (
    ClassifiedImages,
    Images,
    PreferenceImages,
    SegmentedImages,
    TypographicImages,
    UnlabelledImages,
)
from seaanchor.errors import SeaAnchorError, note

DataLike = str | Path | Images | Dataset[Any] | DataLoader[Any]
LOOKED_AT = 64  # images that identify a data set
TWICE = 4  # images that are read twice, to see that they stay the same


def images_given(data: DataLike) -> Images | None:
    """Images that are given as an object; None for a source's name.

    Raises:
        SeaAnchorError: something else; as `from_dataset`.
    """
    if isinstance(data, str | Path):
        return None
    if isinstance(data, UnlabelledImages | ClassifiedImages | PreferenceImages | TypographicImages | SegmentedImages):
        return data
    if isinstance(data, Dataset | DataLoader):
        return from_dataset(data)
    raise SeaAnchorError(
        f"data of type {type(data).__name__}",
        "images from seaanchor.data, a source's name, a torch Dataset or a DataLoader",
        "open them with seaanchor.data.open_images or seaanchor.data.from_dataset",
    )


def from_dataset(
    dataset: Dataset | DataLoader | Sequence[Any],
    class_names: Sequence[str] | Mapping[str, str] | None = None,
    name: str | None = None,
) -> UnlabelledImages | ClassifiedImages:
    """List the images of a map-style `Dataset`, or of the one behind a `DataLoader`.

    Args:
        dataset: N items: an image alone, (image, label), or {"image": ..., "label": ...}. An image is a PIL image, or
            a tensor (C, H, W) of uint8 or of floats in [0, 1]. Of a loader the data set and the indices of a
            `SubsetRandomSampler` are taken; order and batches are Sea Anchor's own.
        class_names: C names, in the order of the class numbers, or of the data set's own `classes` where these are
            numbers; or a mapping from `classes`, which are the default. Without either, labels are left out.
        name: of the data set, for messages and results; by default the name of its type.

    Returns:
        Labelled images if the items have labels and the classes have names. Labels are taken from `targets` or
        `labels` of the data set where they agree with its items; otherwise every item is read once.

    Raises:
        SeaAnchorError: an `IterableDataset`; a loader that leaves out or repeats images; no item, or one of another
            form; floats outside [0, 1]; other pixels each time an image is read; a label that has no name.
    """
    if isinstance(dataset, DataLoader):
        dataset = dataset_of(dataset)
    source = _map_style(dataset)
    count, root = len(source), Path(name or type(_innermost(source)).__name__)
    numbers = sorted({i * count // LOOKED_AT for i in range(LOOKED_AT)}) if count > LOOKED_AT else range(count)
    digest, size, seen = _look(source, numbers, root)
    paths = tuple(DatasetItem(source, i, root, digest, size) for i in range(count))
    if all(label is None for label in seen.values()):
        return UnlabelledImages(root, paths)
    own = _names(source)
    names = own if class_names is None else pair_names(class_names, own, "class_names")
    if names is None:
        note(f"{root} has labels and no class names: the labels are left out. Give class_names to use them")
        return UnlabelledImages(root, paths)
    names = clean_names(names, str(root))
    if class_names is None:
        note_numbers(names, str(root))
    labels = _labels(source, seen)
    if bad := sorted({label for label in labels if not 0 <= label < len(names)}):
        raise SeaAnchorError(
            f"{root} has the label {bad[0]}, and there are {len(names)} class names",
            f"labels from 0 to {len(names) - 1}",
            "correct the labels, or give a name for every class with class_names",
        )
    note_unused(names, labels, root)
    return ClassifiedImages(root, paths, labels, names)


def _map_style(dataset: Any) -> MapStyle:
    if isinstance(dataset, IterableDataset):
        raise SeaAnchorError(
            f"{type(dataset).__name__} is an IterableDataset",
            "images that can be read by their number: a run is resumed, and its order drawn, by them",
            "write tar files of NAME.jpg with NAME.cls (webdataset.ShardWriter, or `seaanchor data build` from class "
            "folders), and open their folder with seaanchor.data.open_images",
        )
    if isinstance(dataset, str | Path) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise SeaAnchorError(
            f"the data set is a {type(dataset).__name__}",
            "a torch Dataset with __len__ and __getitem__, or a DataLoader",
            "open folders and files with seaanchor.data.open_images",
        )
    if len(dataset) == 0:
        raise SeaAnchorError(f"{type(dataset).__name__} is empty", "at least one image", "correct the data set")
    return dataset


def _look(source: MapStyle, numbers: Sequence[int], root: Path) -> tuple[str, int, dict[int, Any]]:
    """A digest of some images and of N, the mean number of bytes of an image, and the labels of these images."""
    digest, total, labels = hashlib.sha256(f"{len(source)}".encode()), 0, {}
    reason = ""
    for place, number in enumerate(numbers):
        try:
            sample = source[number]
        except Exception as error:  # a broken image is left out when it is read; that all are broken is an error
            reason = f"{type(error).__name__}: {error}"
            digest.update(type(error).__name__.encode())
            continue
        picture, label = parts_of(sample)
        to_pixels(picture, 8)  # refuses what is no image
        raw = raw_bytes(picture)
        if place < TWICE and raw_bytes(parts_of(source[number])[0]) != raw:
            raise SeaAnchorError(
                f"image {number} of {root} has other pixels each time it is read",
                "the same pixels: embeddings of the reference are computed once for each image",
                "remove random transforms such as RandomCrop and RandomHorizontalFlip",
            )
        digest.update(raw)
        total, labels[number] = total + len(raw), label
    if not labels:
        raise SeaAnchorError(f"no image of {root} can be read ({reason})", "readable images", "correct the data set")
    return digest.hexdigest()[:16], total // len(labels), labels


def _innermost(dataset: Any) -> Any:
    return _innermost(dataset.dataset) if isinstance(dataset, Subset) else dataset


def _names(dataset: Any) -> tuple[str, ...] | None:
    """The class names that torchvision's data sets hold; several names of one class are a tuple."""
    classes = getattr(_innermost(dataset), "classes", None)
    if not isinstance(classes, list | tuple) or not classes:
        return None
    return tuple(str(name[0] if isinstance(name, tuple) else name).replace("_", " ") for name in classes)


def _labels(dataset: Any, seen: dict[int, Any]) -> tuple[int, ...]:
    """The class number of every item."""
    known = _targets(dataset)
    if known is not None and all(known[number] == _number(label, number) for number, label in seen.items()):
        return tuple(known)
    return tuple(_number(_label_of(dataset, number), number) for number in range(len(dataset)))


def _label_of(dataset: MapStyle, number: int) -> Any:
    try:
        sample = dataset[number]
    except Exception as error:  # the code of a data set raises whatever it likes
        raise SeaAnchorError(
            f"the label of image {number} cannot be read ({type(error).__name__}: {error})",
            "a label for every image, in the items or as a list of integers in the data set's `targets`",
            "give the data set a list `targets`, or leave the image out",
        ) from error
    return parts_of(sample)[1]


def _targets(dataset: Any) -> list[int] | None:
    if isinstance(dataset, Subset):
        outer = _targets(dataset.dataset)
        return None if outer is None else [outer[index] for index in dataset.indices]
    for name in ("targets", "labels"):
        values = getattr(dataset, name, None)
        values = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
        if isinstance(values, list) and len(values) == len(dataset) and all(type(value) is int for value in values):
            return values
    return None


def _number(label: Any, number: int) -> int:
    value: Any = label.item() if isinstance(label, Tensor) and label.numel() == 1 else label
    try:
        return as_index(value)
    except TypeError as error:
        raise SeaAnchorError(
            f"image {number} has the label {str(label)[:60]!r}",
            "a class number: an int, or a tensor with one",
            "convert the labels in the data set's __getitem__",
        ) from error
