"""A perturbation in a file of its own: Gaussian noise on every pixel."""

from dataclasses import dataclass, replace

import torch

import seaanchor as sa


@sa.register("perturbation", "gaussian")
@dataclass(frozen=True)
class Gaussian:
    sigma: float  # in pixel units

    def __call__(self, batch: sa.Batch, loss: sa.LossOf, rng: torch.Generator) -> sa.Batch:
        key, shape = sa.attacks.next_key(rng), tuple(batch.pixels_BCHW.shape[1:])
        noise_BCHW = sa.attacks.normal(key, batch.index_B, shape)  # of each image its own, in any batch
        return replace(batch, pixels_BCHW=(batch.pixels_BCHW + self.sigma * noise_BCHW).clamp(0, 1))
