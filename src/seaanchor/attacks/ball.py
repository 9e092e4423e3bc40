"""The geometry of a perturbation: what is allowed and which way is steepest. Attacks hold the loop, the ball holds the
norm.

Legend: B batch, C channels, H W pixels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seaanchor.attacks.noise import next_key, normal, uniform
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.masks import known_empty
from seaanchor.functional.radii import check_radius

Norm = Literal["linf", "l2"]
SMALL = 1e-6  # length of a gradient below which (or above whose inverse) it is brought near 1 first


@dataclass(frozen=True)
class Ball:
    """All images within `epsilon` of a clean one, in [0, 1].

    Args:
        norm: `linf` or `l2`, over all pixels and channels of an image.
        epsilon: radius in pixel units.

    Raises:
        SeaAnchorError: another norm, a negative radius, or an l-inf radius above 1.

    >>> Ball("linf", 4 / 255).project(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)).max().mul(255).round().item()
    4.0
    """

    norm: Norm
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise SeaAnchorError(f"norm {self.norm!r}", "linf or l2", "choose one of them")
        check_radius(self.epsilon, self.norm)

    def check_fits(self, shape: Sequence[int]) -> None:
        """Fail where the ball is larger than all images of this shape (C, H, W).

        Raises:
            SeaAnchorError: no two such images are as far apart as the radius.
        """
        check_radius(self.epsilon, self.norm, shape)

    def project(self, pixels_BCHW: Tensor, clean_BCHW: Tensor) -> Tensor:
        """The nearest point of the ball, then of [0, 1]; clipping to [0, 1] moves towards the clean image, so it stays
        in the ball."""
        if self.norm == "linf":
            inside = torch.min(torch.max(pixels_BCHW, clean_BCHW - self.epsilon), clean_BCHW + self.epsilon)
        else:
            if self.epsilon**2 > math.prod(clean_BCHW.shape[1:]):
                self.check_fits(clean_BCHW.shape[1:])
            delta = pixels_BCHW - clean_BCHW
            length_B111 = _l2(delta)
            inside = clean_BCHW + delta / (length_B111 + 1e-12) * length_B111.clamp(max=self.epsilon)
        return inside.clamp(0.0, 1.0)

    def projection(self, clean_BCHW: Tensor) -> Callable[[Tensor], Tensor]:
        """`project` for many points around the same images: what depends on those alone is computed once, and the given
        pixels are overwritten."""
        if self.norm == "l2":
            return lambda pixels_BCHW: self.project(pixels_BCHW, clean_BCHW)
        low_BCHW, high_BCHW = (clean_BCHW - self.epsilon).clamp_(min=0.0), (clean_BCHW + self.epsilon).clamp_(max=1.0)
        return lambda pixels_BCHW: pixels_BCHW.clamp_(low_BCHW, high_BCHW)

    def random_start(self, clean_BCHW: Tensor, index_B: Tensor, rng: torch.Generator) -> Tensor:
        """A point drawn uniformly from the ball, clipped to [0, 1]; a function of the generator and each image's number
        (B,), not of its batch."""
        shape, index_B, key = tuple(clean_BCHW.shape[1:]), index_B.to(clean_BCHW.device), next_key(rng)
        if self.norm == "linf":
            return self.project(clean_BCHW + self.epsilon * (2 * uniform(key, index_B, shape) - 1), clean_BCHW)
        direction = normal(key, index_B, shape)
        share = uniform(next_key(rng), index_B, (1, 1, 1)) ** (1 / clean_BCHW[0].numel())
        return self.project(clean_BCHW + self.epsilon * share * direction / _l2(direction), clean_BCHW)

    def spread(self, noise_BCHW: Tensor) -> Tensor:
        """Noise scaled so that it reaches the ball's surface: APGD's start."""
        size_B111 = noise_BCHW.abs().amax((1, 2, 3), keepdim=True) if self.norm == "linf" else _l2(noise_BCHW)
        return self.epsilon * (noise_BCHW / (size_B111 + 1e-12))

    def ascent_direction(self, grad_BCHW: Tensor) -> Tensor:
        """Steepest direction of unit size: the sign for l-inf, the unit vector for l2."""
        return grad_BCHW.sign() if self.norm == "linf" else _unit(grad_BCHW)

    def distance(self, a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
        """Distance (B,) of two images in this norm."""
        delta = a_BCHW - b_BCHW
        return delta.abs().amax((1, 2, 3)) if self.norm == "linf" else _l2(delta).flatten()


def _unit(delta_BCHW: Tensor) -> Tensor:
    """Of length 1, also where squares are too small or too large for fp32; 0 stays 0."""
    length_B111 = _l2(delta_BCHW)
    unit_BCHW = delta_BCHW / (length_B111 + 1e-12)
    extreme_B111 = (length_B111 < SMALL) | (length_B111 > 1 / SMALL)
    if known_empty(extreme_B111):
        return unit_BCHW
    largest_B111 = delta_BCHW.abs().amax((1, 2, 3), keepdim=True)
    near_1_BCHW = delta_BCHW / largest_B111.clamp(min=torch.finfo(delta_BCHW.dtype).tiny)
    return torch.where(extreme_B111, near_1_BCHW / (_l2(near_1_BCHW) + 1e-12), unit_BCHW)


def _l2(delta_BCHW: Tensor) -> Tensor:
    return delta_BCHW.square().sum((1, 2, 3), keepdim=True).sqrt()
