"""Perturbations as a device pays for them."""

from dataclasses import dataclass, replace

import torch

from seaanchor.attacks.apgd import apgd
from seaanchor.errors import SeaAnchorError
from seaanchor.perturbations.apgd import APGD
from seaanchor.perturbations.chain import Chain
from seaanchor.perturbations.none import NoPerturbation
from seaanchor.perturbations.pgd import PGD
from seaanchor.types import Batch, LossOf, Perturbation, needs_of


def rehearsed(perturbation: Perturbation, num_steps: int) -> Perturbation:
    """A perturbation as the device pays for it: attacks start at the clean image, and words are drawn elsewhere."""
    if isinstance(perturbation, Chain):
        return Chain(tuple(rehearsed(link, num_steps) for link in perturbation.links))
    if isinstance(perturbation, PGD):
        return replace(perturbation, random_start=False, num_steps=num_steps)
    if isinstance(perturbation, APGD):
        return _FromClean(replace(perturbation, num_steps=num_steps))
    if needs_of(perturbation).pixel_gradient:
        raise SeaAnchorError(
            f"the cost of the perturbation {type(perturbation).__name__} is not known",
            "pgd or apgd, whose passes are predicted",
            "measure it with --dry-run, which runs one step",
        )
    return NoPerturbation()


@dataclass(frozen=True)
class _FromClean:
    """APGD from the clean image."""

    attack: APGD

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        attack_loss, pixels_BCHW = loss(batch), batch.pixels_BCHW
        result = apgd(
            lambda pixels, row: attack_loss(pixels), pixels_BCHW, pixels_BCHW, self.attack.ball, self.attack.num_steps
        )
        return replace(batch, pixels_BCHW=result.pixels_BCHW)
