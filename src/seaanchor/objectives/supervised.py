"""Cross-entropy against the class head: TeCoA, and the supervised baseline of preference optimization.

Legend: B batch, C classes, D embedding dimension.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seaanchor.functional.cross_entropy import attack_cross_entropy
from seaanchor.objectives.losses import cross_entropy_loss
from seaanchor.types import Embeddings, Head, Needs, Targets


def _tecoa(embedding_BD: Tensor, head: Head, label_B: Tensor) -> Tensor:
    return cross_entropy_loss(head(embedding_BD), label_B)


def _attacked(embedding_BD: Tensor, head: Head, label_B: Tensor) -> Tensor:
    return attack_cross_entropy(head(embedding_BD), label_B)


def _required(targets: Targets, embeddings: Embeddings | None = None) -> tuple[Head, Tensor]:
    head = (embeddings and embeddings.head) or targets.head  # an adapter may move the texts too
    if head is None or targets.label_B is None:
        raise ValueError("a supervised objective needs targets with head and label_B")
    return head, targets.label_B


@dataclass(frozen=True)
class TeCoA:
    """Text-guided contrastive adversarial training: cross-entropy of the perturbed image (Mao et al. 2023, eq. 4)."""

    needs: ClassVar[Needs] = Needs(head=True, labels=True)

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """Cross-entropy (B,) of the perturbed image, alive at any scale of the logits."""
        return _attacked(embedding_BD, *_required(targets))

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """The same cross-entropy (B,), to be minimised."""
        return _tecoa(embeddings.perturbed_BD, *_required(targets, embeddings))


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the perturbed and of the clean image, averaged: ordinary supervised fine-tuning."""

    needs: ClassVar[Needs] = Needs(clean=True, head=True, labels=True)

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """Cross-entropy (B,) of the perturbed image, alive at any scale of the logits."""
        return _attacked(embedding_BD, *_required(targets))

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """Mean of both cross-entropies (B,)."""
        if embeddings.clean_BD is None:
            raise ValueError("cross_entropy needs the clean embeddings")
        both = (
            _tecoa(x_BD, *_required(targets, embeddings)) for x_BD in (embeddings.perturbed_BD, embeddings.clean_BD)
        )
        return sum(both, torch.zeros(())) / 2
