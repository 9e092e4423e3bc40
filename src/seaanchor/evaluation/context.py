"""What a suite is, and what it works with: a model in front of its images.

Legend: B batch, N images, C classes, D embedding dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seaanchor.attacks.classification import Logits
from seaanchor.data.types import Images, LabelledImages, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.segmentation_head import SegmentationHead
from seaanchor.evaluation.captions import Captions
from seaanchor.evaluation.protocol import Protocol
from seaanchor.evaluation.results import Check
from seaanchor.evaluation.table import Table
from seaanchor.types import Batch, Head, NamedHead


@dataclass(frozen=True)
class ChosenHead:
    """The head of an evaluation.

    Attributes:
        kind: `text`, `classifier`, `probe` or `file`; `none` of patch tokens.
        named: the model's, None for texts.
        of_reference: the reference's, None for texts or without a reference.
        source: the file, or the images that a probe was fitted on.
    """

    kind: str = "text"
    named: NamedHead | None = None
    of_reference: NamedHead | None = None
    source: str | None = None


@dataclass(frozen=True)
class EvaluationContext:
    """A model in front of its images.

    Attributes:
        model: what is evaluated.
        reference: the untouched model, None for a model that is its own reference.
        protocol: what is asked for.
        dataset: name of the images.
        images: the images, labelled unless they have captions.
        captions: the images' texts, where they have texts instead of classes.
        training: the training images a probe is fitted on, None without one.
        templates: prompts.
        head: what turns embeddings into answers, on the device; of captioned images, the captions in its place.
        chosen: which head that is, of the model and of its reference.
        logits: pixels → its logits.
        rho: bound on the clean embedding's relative distance that the model was trained with, None where there was
            none.
        device: where the model runs.
        segmentation: the head of the suite of that name, on the device.
    """

    model: LoadedModel
    reference: LoadedModel | None
    protocol: Protocol
    dataset: str
    images: Images
    captions: Captions | None
    training: LabelledImages | None
    templates: tuple[str, ...]
    head: Head
    chosen: ChosenHead
    logits: Logits
    rho: float | None
    device: torch.device
    segmentation: SegmentationHead | None = None

    @property
    def dense(self) -> bool:
        """Whether the model gives patch tokens, which give no image a class."""
        return self.model.encoder.tokens == "patches"

    @property
    def classifies(self) -> bool:
        """Whether images are given classes: they have labels, and the model one embedding for each."""
        return self.captions is None and not self.dense

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; none for captioned images."""
        return texts_of(self.images)


@dataclass(frozen=True)
class CleanBatch:
    """A batch with what every suite needs of it, computed once: clean embeddings (B, D) and clean logits (B, C)."""

    batch: Batch
    embedding_BD: Tensor
    logits_BC: Tensor


@dataclass(frozen=True)
class Tables:
    """What was measured: the suite's own columns (N, ...) with `index` and `label`, and whole tables of embeddings
    where it asked for them, each with `index`, `label` and `embedding`."""

    own: Table
    clean: Table | None = None
    reference: Table | None = None
    training: Table | None = None

    @property
    def columns(self) -> Table:
        """The suite's own columns without `index` and `label`."""
        return {name: values for name, values in self.own.items() if name not in ("index", "label")}


@dataclass(frozen=True)
class Suite:
    """One evaluation.

    Attributes:
        summarise: its outcome, a frozen dataclass, from the whole tables.
        measure: its columns, one row an image, of one batch; None if it needs no image, or embeddings alone.
        embeddings: which tables of embeddings it needs, of clean, reference and training; those of patch tokens are
            never kept.
        classes: whether it needs classes, which captioned images do not have.
        texts: whether it compares images with texts, for which the head must be one of texts.
        check: raises a SeaAnchorError where model or images are not of the kind it needs; called before anything is
            computed.
        audit: whether its numbers can be believed: checks by name.
    """

    summarise: Callable[[EvaluationContext, Tables], Any]
    measure: Callable[[EvaluationContext, CleanBatch], Table] | None = None
    embeddings: frozenset[str] = frozenset()
    classes: bool = True
    texts: bool = False
    check: Callable[[EvaluationContext], None] = lambda context: None
    audit: Callable[[EvaluationContext, Tables], dict[str, Check]] = lambda context, tables: {}


def needed(table: Table | None) -> Table:
    """A table that the suite asked for."""
    if table is None:
        raise RuntimeError("the suite is given less than it asked for")
    return table


def legal_check(sound: list[Tensor]) -> dict[str, Check]:
    """The check that attacked images stay where they may: `sound` holds one (N,) of each attack."""
    illegal, looked_at = sum(int((~sound_N).sum()) for sound_N in sound), sum(len(sound_N) for sound_N in sound)
    detail = f"{illegal} of {looked_at} attacked images do not, are not finite, or had a gradient that is not"
    return {"images stay in the ball and in [0, 1]": Check(illegal == 0, detail)}
