"""No perturbation: the objective sees the clean image."""

from dataclasses import dataclass

import torch

from seaanchor.parts import AttackLoss, Batch


@dataclass(frozen=True)
class NoPerturbation:
    """The batch as it is."""

    def __call__(self, batch: Batch, loss: AttackLoss, rng: torch.Generator) -> Batch:
        """The batch itself."""
        return batch
