"""Squared distance of embeddings: the objective of FARE and LORE.

Legend: B batch, D embedding dimension.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from seaanchor.functional.distances import relative_distance
from seaanchor.objectives.losses import embedding_distance_loss
from seaanchor.types import Embeddings, Needs, Targets


@dataclass(frozen=True)
class EmbeddingDistance:
    """‖φ_θ(x+δ) − φ_0(x)‖²: the perturbed image's embedding returns to where the reference puts the clean image.

    Args:
        relative: the distance is divided by ‖φ_0(x)‖², so that it is a share of the image's own length: the loss of
            towers with other lengths is then of the same order.

    Source: FARE (Schlarmann et al. 2024) eq. 3; LORE eq. 3.
    """

    relative: bool = False
    needs: ClassVar[Needs] = Needs(hard_images=True, reference_embeddings=True)

    def attack_loss(self, embedding_BD: Tensor, targets: Targets) -> Tensor:
        """Distance (B,) of the perturbed embedding to the clean reference."""
        if self.relative:
            return relative_distance(embedding_BD, targets.reference_BD)
        return embedding_distance_loss(embedding_BD, targets.reference_BD)

    def __call__(self, embeddings: Embeddings, targets: Targets) -> Tensor:
        """The same distance (B,), to be minimised."""
        return self.attack_loss(embeddings.perturbed_BD, targets)
