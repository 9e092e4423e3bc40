"""What is asked for, what a suite may use, and what a suite is.

Legend: B batch, N images, C classes, H W pixels, D embedding dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seaanchor.attacks.classification import Logits
from seaanchor.data.types import Images, LabelledImages
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.rows import Table
from seaanchor.evaluation.suites.corruptions import CORE
from seaanchor.evaluation.suites.retrieval import Captions
from seaanchor.evaluation.suites.typographic import TypographicPlan
from seaanchor.types import Batch, Head

FORMAT = 3  # of result files


@dataclass(frozen=True)
class Protocol:
    """What an accuracy depends on besides the model and the images.

    Attributes:
        plans: attacks on the classifier.
        templates: prompts; where there are none, those that a data set brings, or "a photo of a {}."
        samples: at most this many images of each set, balanced over the classes.
        seed: of subsets, and of every suite's own drawings.
        image_size: the models' input side in pixels, where the architecture allows another than its own.
        suites: names out of `SUITES`.
        typographic: how words are drawn.
        embedding: the attack of the suite of that name.
        corruptions: kinds of corruption of the suite of that name.
        training: training images of the suite `probe`; by default the train split beside each set.
        format: of the result file.
    """

    plans: tuple[AttackPlan, ...]
    templates: tuple[str, ...] = ()
    samples: int | None = None
    seed: int = 0
    image_size: int | None = None
    suites: tuple[str, ...] = ()
    typographic: TypographicPlan = TypographicPlan()
    embedding: AttackPlan | None = None
    corruptions: tuple[str, ...] = CORE
    training: str | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class Bench:
    """A model in front of its images.

    Attributes:
        model: what is evaluated.
        reference: the untouched model, None for a model that is its own.
        head: the zero-shot classifier on the device; of captioned images, the captions in its place.
        logits: pixels → its logits.
        images: the images, labelled unless they have captions.
        captions: the images' texts, where they have texts instead of classes.
        training: the training images a probe is fitted on, None without one.
        templates: prompts.
        typographic: how words are drawn.
        embedding: radii and steps of the attack on embeddings, None without one.
        corruptions: kinds of corruption.
        rho: bound on the clean embedding's relative distance that the model was trained with, None where there was
            none.
        seed: of everything random.
        device: where the model runs.
        plans: the attacks on the classifier, for suites that combine them with something else.
    """

    model: LoadedModel
    reference: LoadedModel | None
    head: Head
    logits: Logits
    images: Images
    captions: Captions | None
    training: LabelledImages | None
    templates: tuple[str, ...]
    typographic: TypographicPlan
    embedding: AttackPlan | None
    corruptions: tuple[str, ...]
    rho: float | None
    seed: int
    device: torch.device
    plans: tuple[AttackPlan, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A batch with what every suite wants of it, computed once: clean embeddings (B, D) and clean logits (B, C)."""

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


@dataclass(frozen=True)
class Suite:
    """One evaluation.

    Attributes:
        summarise: its numbers, from the whole tables.
        measure: its columns, one row an image, of one batch; None if it looks at no image, or at embeddings alone.
        embeddings: which tables of embeddings it needs, of clean, reference and training.
        classes: whether it needs classes, which captioned images do not have.
        check: raises a SeaAnchorError where model or images are not of the kind it needs; called before anything is
            computed.
        audit: whether its numbers can be believed: checks by name.
    """

    summarise: Callable[[Bench, Tables], Any]
    measure: Callable[[Bench, Seen], Table] | None = None
    embeddings: frozenset[str] = frozenset()
    classes: bool = True
    check: Callable[[Bench], None] = lambda bench: None
    audit: Callable[[Bench, Tables], dict[str, Any]] = lambda bench, tables: {}
