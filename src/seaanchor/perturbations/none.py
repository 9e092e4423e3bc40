"""No perturbation: the objective sees the clean image."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from seaanchor.types import Batch, LossOf, Needs


@dataclass(frozen=True)
class NoPerturbation:
    """The batch as it is."""

    needs: ClassVar[Needs] = Needs(leaves_pixels=True)

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch itself."""
        return batch
