"""One perturbation after another: a word is drawn on the image, and noise is then added to what came out."""

from dataclasses import dataclass, replace
from functools import reduce
from operator import or_

import torch

from seaanchor.types import Batch, BindContext, LossOf, Needs, Perturbation, bind, needs_of


@dataclass(frozen=True)
class Chain:
    """Perturbations in order; each sees the batch as the one before left it, with the preferences that it brought.

    Args:
        links: the perturbations. An attack's ball lies around what the links before it made.
    """

    links: tuple[Perturbation, ...]

    @property
    def needs(self) -> Needs:
        """What any link declares; pixels are as they were if all leave them so."""
        declared = [needs_of(link) for link in self.links]
        union = reduce(or_, declared, Needs())
        return replace(union, leaves_pixels=all(needs.leaves_pixels for needs in declared))

    def bind(self, context: BindContext) -> "Chain":
        """The chain of bound links.

        Raises:
            SeaAnchorError: as the links.
        """
        return Chain(tuple(bind(link, context) for link in self.links))

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch after all links."""
        for link in self.links:
            batch = link(batch, loss, rng)
        return batch
