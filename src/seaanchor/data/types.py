"""The kinds of image data sets. Which kind a data set is, its type says.

Legend: N images, C classes, M texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from seaanchor.data.images import Item


@dataclass(frozen=True)
class DamagedShards:
    """Shards that are missing or damaged; how many images went with them cannot be known.

    Attributes:
        reasons: one text for each such shard.
        shards: how many there should be.
    """

    reasons: tuple[str, ...]
    shards: int


class Listing(Protocol):
    """What all kinds share.

    Attributes:
        root: where the images are, for messages and names.
        paths: N items that open as images: files, members of shards, rows of tables, items of a `Dataset`.
        refused: a text for everything that could not be listed as an image; counted with what cannot be read.
        damaged: shards of which nothing, or not all, can be read.
    """

    @property
    def root(self) -> Path: ...

    @property
    def paths(self) -> tuple[Item, ...]: ...

    @property
    def refused(self) -> tuple[str, ...]: ...

    @property
    def damaged(self) -> DamagedShards | None: ...


@dataclass(frozen=True)
class UnlabelledImages:
    """N images and nothing about them. For the common attributes see `Listing`."""

    root: Path
    paths: tuple[Item, ...]
    refused: tuple[str, ...] = ()
    damaged: DamagedShards | None = None


@dataclass(frozen=True)
class ClassifiedImages:
    """N images with a class each. For the common attributes see `Listing`.

    Attributes:
        labels: N class numbers.
        class_names: C names.
        templates: the prompts that the data set brings itself, with `{}`; None if it brings none.
    """

    root: Path
    paths: tuple[Item, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]
    templates: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()
    damaged: DamagedShards | None = None


@dataclass(frozen=True)
class PreferenceImages:
    """N images with texts that should win or lose. For the common attributes see `Listing`.

    Attributes:
        texts: M candidate texts.
        pairs: N times the numbers of the chosen and of the rejected text, −1 where an unpaired row has none.
    """

    root: Path
    paths: tuple[Item, ...]
    texts: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    refused: tuple[str, ...] = ()
    damaged: DamagedShards | None = None


@dataclass(frozen=True)
class TypographicImages:
    """N images with a class each, on which a wrong class name is written. For the common attributes see `Listing`.

    Attributes:
        labels: N class numbers.
        words: N class numbers of the written words.
        class_names: C names.
    """

    root: Path
    paths: tuple[Item, ...]
    labels: tuple[int, ...]
    words: tuple[int, ...]
    class_names: tuple[str, ...]
    refused: tuple[str, ...] = ()
    damaged: DamagedShards | None = None

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The label as the chosen text and the written word as the rejected one."""
        return tuple(zip(self.labels, self.words, strict=True))


@dataclass(frozen=True)
class SegmentedImages:
    """N images with a mask each, which gives every pixel a class. For the common attributes see `Listing`.

    Attributes:
        masks: N files of the images' sizes; `seaanchor.data.masks.read_mask` reads them.
        class_names: C names.
        ignore_index: what pixels without a class have in a mask that was read.
        first: what is stored for class 0. Smaller values, and `ignore_index`, have no class.
    """

    root: Path
    paths: tuple[Item, ...]
    masks: tuple[Path, ...]
    class_names: tuple[str, ...]
    ignore_index: int = 255
    first: int = 0
    refused: tuple[str, ...] = ()
    damaged: DamagedShards | None = None


LabelledImages = ClassifiedImages | TypographicImages
Images = UnlabelledImages | ClassifiedImages | PreferenceImages | TypographicImages | SegmentedImages
ImagesT = TypeVar("ImagesT", bound=Images)

_PER_IMAGE = frozenset({"paths", "labels", "words", "pairs", "masks"})


def labels_of(images: Images) -> tuple[int, ...] | None:
    """N class numbers, None where there are no classes."""
    return images.labels if isinstance(images, LabelledImages) else None


def pairs_of(images: Images) -> tuple[tuple[int, int], ...] | None:
    """N pairs of a chosen and a rejected text, None where there are no preferences."""
    return images.pairs if isinstance(images, PreferenceImages | TypographicImages) else None


def texts_of(images: Images) -> tuple[str, ...]:
    """What a model chooses from: class names, or the texts of preferences; empty for unlabelled images."""
    match images:
        case UnlabelledImages():
            return ()
        case PreferenceImages():
            return images.texts
        case _:
            return images.class_names


def templates_of(images: Images) -> tuple[str, ...] | None:
    """The prompts that a data set brings itself, None if it brings none."""
    return images.templates if isinstance(images, ClassifiedImages) else None


def take(images: ImagesT, chosen: Sequence[int]) -> ImagesT:
    """The images of these numbers, in this order, with all that belongs to them."""
    columns = [field.name for field in fields(images) if field.name in _PER_IMAGE]
    changes: dict[str, Any] = {name: tuple(getattr(images, name)[i] for i in chosen) for name in columns}
    return replace(cast(Any, images), **changes)
