"""A multiplier for every image, which nothing has to predict.

Legend: B batch, N images of the data set.
"""

import torch
from torch import Tensor, nn

from seaanchor.anchors.control import pi_update


class MultiplierTable(nn.Module):
    """λ_i for each image i of the data set (of preferences, each row): what a dual network can at most come near on
    training images.

    Args:
        count: N.
        initial: λ that every image starts from.
        maximum: λ is clamped to at most this; None leaves it free.
    """

    smoothed_N: Tensor

    def __init__(self, count: int, *, initial: float = 1.0, maximum: float | None = None) -> None:
        super().__init__()
        self.maximum = maximum
        start = initial if maximum is None else min(initial, maximum)
        self.multiplier_N = nn.Parameter(torch.full((count,), float(start)))
        self.register_buffer("smoothed_N", torch.zeros(count))

    def forward(self, index_B: Tensor) -> Tensor:
        """Multipliers (B,) of images by their index (B,)."""
        return self.multiplier_N[index_B]

    @torch.no_grad()
    def ascend(
        self, index_B: Tensor, violation_B: Tensor, rate: float, proportional: float = 0.0, smoothing: float = 0.0
    ) -> None:
        """Projected ascent on the violations of some images: λ ← max(0, λ + rate·(e + κ·(ξ − ξ before))), with κ of 0
        plain ascent. Other images keep λ and ξ: an image's last violation is that of its last visit.

        Args:
            index_B: each image at most once.
            violation_B: e, of any sign.
            rate: the integral gain.
            proportional, smoothing: κ and ν of `pi_update`.
        """
        update_B, smoothed_B = pi_update(violation_B, self.smoothed_N[index_B], proportional, smoothing)
        self.smoothed_N[index_B] = smoothed_B
        self.multiplier_N[index_B] = (self.multiplier_N[index_B] + rate * update_B).clamp(0, self.maximum)
