"""A perturbation in a file of its own: Gaussian noise on every pixel."""

from dataclasses import dataclass, replace

import torch

import seaanchor as sa


@sa.register("perturbation", "gaussian")
@dataclass(frozen=True)
class Gaussian:
    sigma: float  # in pixel units

    def __call__(self, batch: sa.Batch, loss: sa.LossOf, rng: torch.Generator) -> sa.Batch:
        noise_BCHW = torch.randn(batch.pixels_BCHW.shape, generator=rng).to(batch.pixels_BCHW)
        return replace(batch, pixels_BCHW=(batch.pixels_BCHW + self.sigma * noise_BCHW).clamp(0, 1))
