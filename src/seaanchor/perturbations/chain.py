"""One perturbation after another: a word is drawn on the image, and noise is then added to what came out."""

from dataclasses import dataclass

import torch

from seaanchor.types import Batch, LossOf, Perturbation


@dataclass(frozen=True)
class Chain:
    """Perturbations in order; each sees the batch as the one before left it, with the preferences that it brought.

    Args:
        links: the perturbations. An attack's ball lies around what the links before it made.
    """

    links: tuple[Perturbation, ...]

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch after all links."""
        for link in self.links:
            batch = link(batch, loss, rng)
        return batch
