"""The records that steps hand each other, and the protocols of the four parts.

Legend: B batch, C channels or classes, H W pixels, D embedding dimension.

Each part of a method says what it needs, so that a step computes it once, and nothing that nobody asked for.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Preference:
    """Which text should win over which, as rows of the text table (B,); −1 where an unpaired row has none."""

    chosen_B: Tensor
    rejected_B: Tensor


@dataclass(frozen=True)
class Batch:
    """Images: pixels (B, C, H, W) in [0, 1], labels (B,) or None, index (B,) in the data set, preferences if any."""

    pixels_BCHW: Tensor
    label_B: Tensor | None
    index_B: Tensor
    preference: Preference | None = None


@dataclass(frozen=True)
class Head:
    """What turns raw embeddings (B, D) into logits (B, C): the cosine with class texts, or a linear layer.

    Attributes:
        weight_CD: one row a class, of length 1 where `unit`.
        logit_scale: multiplies what the rows give.
        bias_C: added after that; by default none. A bias that is the same for all classes, as SigLIP's, changes no
            softmax, no argmax and no difference of logits, and is left out.
        unit: whether embeddings are divided by their length first, which makes logits of cosines.
        kind: where it comes from: `text`, `classifier`, `probe` or `file`.
    """

    weight_CD: Tensor
    logit_scale: float = 1.0
    bias_C: Tensor | None = None
    unit: bool = True
    kind: str = "text"

    def __call__(self, embedding_BD: Tensor) -> Tensor:
        """Logits (B, C) of raw embeddings (B, D)."""
        logits_BC = self.logit_scale * self._rows(embedding_BD) @ self.weight_CD.T
        return logits_BC if self.bias_C is None else logits_BC + self.bias_C

    def pair_logits(self, embedding_BD: Tensor, class_B: Tensor) -> Tensor:
        """Logits (B,) of one class for each embedding, without those of the others."""
        logits_B = self.logit_scale * (self._rows(embedding_BD) * self.weight_CD[class_B]).sum(-1)
        return logits_B if self.bias_C is None else logits_B + self.bias_C[class_B]

    def to(self, device: torch.device | str) -> "Head":
        """The head on a device."""
        bias_C = None if self.bias_C is None else self.bias_C.to(device)
        return replace(self, weight_CD=self.weight_CD.to(device), bias_C=bias_C)

    def _rows(self, embedding_BD: Tensor) -> Tensor:
        return nn.functional.normalize(embedding_BD, dim=-1) if self.unit else embedding_BD


@dataclass(frozen=True)
class NamedHead:
    """A head, the names of its classes, and what it was made for.

    Attributes:
        head: reads embeddings.
        class_names: in the order of its rows; None where they are not known.
        tokens: of the embeddings it reads: `class`, `mean`, `patches` or `library`; None where they are not known.
    """

    head: Head
    class_names: tuple[str, ...] | None = None
    tokens: str | None = None


@dataclass(frozen=True)
class Targets:
    """What a step holds fixed: reference embeddings of the clean images (B, D); class head, labels, preferences and the
    reference's embeddings of the perturbed images (B, D) where asked for; a moving average's embeddings of the clean
    images (B, D) where the anchor has one; the objective's `baseline` over all images of a batch taken in slices; the
    policy's logits of the perturbed images (B, C) before the step's first update, numbers in the data set (B,)."""

    reference_BD: Tensor
    label_B: Tensor | None = None
    head: Head | None = None
    preference: Preference | None = None
    reference_perturbed_BD: Tensor | None = None
    anchor_BD: Tensor | None = None
    baseline: Tensor | None = None
    index_B: Tensor | None = None
    old_logits_BC: Tensor | None = None

    @property
    def held_BD(self) -> Tensor:
        """What an anchor holds the clean images to (B, D): a moving average's embeddings, or the reference's."""
        return self.reference_BD if self.anchor_BD is None else self.anchor_BD


@dataclass(frozen=True)
class Embeddings:
    """The policy's raw embeddings (B, D) of perturbed and, where asked for, clean images; its texts if they move."""

    perturbed_BD: Tensor
    clean_BD: Tensor | None = None
    head: Head | None = None


@dataclass(frozen=True)
class Constraint:
    """A per-sample inequality `distance <= bound`, both (B,) and >= 0; the margin m(x) (B,) of raw embeddings."""

    distance_B: Tensor
    bound_B: Tensor
    margin_B: Tensor | None = None

    @property
    def violation_B(self) -> Tensor:
        """Positive where the constraint is broken."""
        return self.distance_B - self.bound_B


@dataclass(frozen=True)
class AnchorTerms:
    """What an anchor adds to the loss (B,), with the constraint and detached multipliers (B,) behind it if any."""

    loss_B: Tensor
    constraint: Constraint | None = None
    multiplier_B: Tensor | None = None


@dataclass(frozen=True)
class LossTerms:
    """The primal loss: objective and anchor per sample (B,), the adapter's own scalar, and what later updates read."""

    objective_B: Tensor
    anchor: AnchorTerms
    adapter: Tensor | None = None
    old_logits_BC: Tensor | None = None

    @property
    def total_B(self) -> Tensor:
        """What the primal step minimises."""
        total_B = self.objective_B + self.anchor.loss_B
        return total_B if self.adapter is None else total_B + self.adapter


@dataclass(frozen=True)
class Needs:
    """What a part asks of a step and of the data; checks, data and log go by these declarations, never by a name.

    Attributes:
        clean: the policy's embeddings of the clean images.
        head: the class texts as a zero-shot head; a text tower is then loaded.
        labels: the true class of each image.
        pairs: which text should win over which, from the data or from the perturbation.
        reference_perturbed: the reference's embeddings of the perturbed images.
        old_policy: the policy's logits of the perturbed images before the step's first update; with `head`.
        texts: class names or candidate texts at `bind`.
        unpaired: of an objective with pairs: rows with one text are enough.
        hard_images: of an objective: it is 0 until something changes the images.
        reference_embeddings: it compares raw embeddings with those of the reference.
        pixel_gradient: of a perturbation: it follows the loss's gradient to the pixels.
        leaves_pixels: of a perturbation: images stay as they are.
        gives_pairs: of a perturbation: it brings the preferences.
        draws_words: of a perturbation: it draws class names on the images.
        stored_embeddings: of an adapter: it trains a map of embeddings that are computed once.
        whole_tower: of an adapter: every weight of the image tower moves.
        index: each image's number in the data set, and their count at `bind`.
    """

    clean: bool = False
    head: bool = False
    labels: bool = False
    pairs: bool = False
    reference_perturbed: bool = False
    old_policy: bool = False
    texts: bool = False
    unpaired: bool = False
    hard_images: bool = False
    reference_embeddings: bool = False
    pixel_gradient: bool = False
    leaves_pixels: bool = False
    gives_pairs: bool = False
    draws_words: bool = False
    stored_embeddings: bool = False
    whole_tower: bool = False
    index: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        """What one or the other asks for."""
        return Needs(*(getattr(self, f.name) or getattr(other, f.name) for f in fields(self)))


def needs_of(part: object) -> Needs:
    """What a part declares; nothing where it declares nothing."""
    return getattr(part, "needs", Needs())


@dataclass(frozen=True)
class BindContext:
    """What is known of a run once its model and data are loaded.

    Attributes:
        dim: D of the reference embeddings.
        texts: class names or candidate texts, in the order of the labels.
        seed: of the run.
        image_size: side of the model's images in pixels.
        num_images: of the training data; None where that is not known.
    """

    dim: int
    texts: Sequence[str] = ()
    seed: int = 0
    image_size: int | None = None
    num_images: int | None = None


P = TypeVar("P")


def bind(part: P, context: BindContext) -> P:
    """A part with what only the run knows: `part.bind(context)` where it has that, else the part itself."""
    made: P = part.bind(context) if hasattr(part, "bind") else part
    return made


class Objective(Protocol):
    """What should become better."""

    @property
    def needs(self) -> Needs: ...

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """The per-sample loss (B,) that an attack maximises, of the policy's embeddings of the perturbed images."""
        ...

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """The per-sample loss (B,) that training minimises."""
        ...


class Anchor(Protocol):
    """How the policy is kept near the reference. Owns the dual variables, if any."""

    @property
    def needs(self) -> Needs: ...

    def __call__(self, embeddings: Embeddings, targets: Targets) -> AnchorTerms:
        """The anchor's terms of the primal loss; no gradient reaches the dual variables."""
        ...

    def dual_loss(self, constraint: Constraint, targets: Targets) -> Tensor | None:
        """Scalar to minimise over the dual variables, None without any; no gradient reaches the policy."""
        ...

    def dual_module(self) -> nn.Module | None:
        """The dual variables as a module, or None."""
        ...


class Perturbation(Protocol):
    """On which hard inputs: maps a batch to a batch."""

    def __call__(self, batch: Batch, loss: "LossOf", rng: torch.Generator) -> Batch:
        """Perturb the batch; an attack raises `loss(batch)`, which knows the batch's labels and preferences."""
        ...


class Adapter(Protocol):
    """Which parameters move."""

    def trainable(self, encoder: nn.Module) -> Iterable[nn.Parameter]:
        """Freeze what stays and return what moves."""
        ...

    def head(self, policy: nn.Module, head: Head | None) -> Head | None:
        """The policy's own text side, or None where texts stay as the reference has them."""
        ...

    def penalty(self, policy: nn.Module) -> Tensor | None:
        """A scalar that the adapter adds to the primal loss, or None."""
        ...


AttackLoss = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps pixels (B, C, H, W) to a per-sample loss (B,) that an attack raises, and the output (B, ...) it comes from."""

LossOf = Callable[[Batch], AttackLoss]
"""What an attack on a batch raises."""
