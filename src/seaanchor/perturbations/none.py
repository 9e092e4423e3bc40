"""No perturbation: the objective sees the clean image."""

from dataclasses import dataclass

import torch

from seaanchor.types import Batch, LossOf


@dataclass(frozen=True)
class NoPerturbation:
    """The batch as it is."""

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch itself."""
        return batch
