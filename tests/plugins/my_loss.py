"""An objective in a file of its own: cosine distance to the reference, sharpened by a temperature."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

import seaanchor as sa


@sa.register("objective", "cosine_to_reference")
@dataclass(frozen=True)
class CosineDistance:
    """(1 − cos(φ_θ(x+δ), φ_0(x))) / temperature."""

    temperature: float = 1.0
    needs = sa.Needs(hard_images=True, reference_embeddings=True)

    def attack_loss(self, embedding_BD: Tensor, targets: sa.Targets) -> Tensor:
        return (1 - F.cosine_similarity(embedding_BD, targets.reference_BD)) / self.temperature

    def __call__(self, embeddings: sa.Embeddings, targets: sa.Targets) -> Tensor:
        return self.attack_loss(embeddings.perturbed_BD, targets)
