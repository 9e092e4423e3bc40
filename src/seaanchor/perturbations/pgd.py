"""PGD around a training step's images (Madry et al. 2018).

Legend: B batch, C channels, H W pixels.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from seaanchor.attacks.ball import Ball, Norm
from seaanchor.attacks.pgd import pgd
from seaanchor.functional.radii import check_radius
from seaanchor.types import Batch, BindContext, LossOf, Needs


@dataclass(frozen=True)
class PGD:
    """Ascend any per-sample loss from a random start; exactly `num_steps` gradients, the last iterate is the result.

    Args:
        ball: norm and radius.
        num_steps: gradient steps.
        step_size: in pixel units; a quarter of epsilon by default.
        random_start: start anywhere in the ball instead of at the clean image, where the gradient of an embedding
            distance is 0.
        momentum: of the steps' directions (FARE's public code: 0.9; 0 is plain PGD).
    """

    ball: Ball
    num_steps: int = 10
    step_size: float | None = None
    random_start: bool = True
    momentum: float = 0.0
    needs: ClassVar[Needs] = Needs(pixel_gradient=True)

    @classmethod
    def from_settings(
        cls,
        norm: Norm = "linf",
        epsilon: float = 2 / 255,
        num_steps: int = 10,
        step_size: float | None = None,
        random_start: bool = True,
        momentum: float = 0.0,
    ) -> "PGD":
        """The perturbation that a configuration describes; radius and step in pixel units."""
        return cls(Ball(norm, epsilon), num_steps, step_size, random_start, momentum)

    def config(self) -> dict[str, Any]:
        """The settings that `from_settings` takes."""
        return {
            "norm": self.ball.norm,
            "epsilon": self.ball.epsilon,
            "num_steps": self.num_steps,
            "step_size": self.step_size,
            "random_start": self.random_start,
            "momentum": self.momentum,
        }

    def bind(self, context: BindContext) -> "PGD":
        """The same: the ball fits into the model's images.

        Raises:
            SeaAnchorError: it does not.
        """
        if context.image_size is not None:
            shape = 3, context.image_size, context.image_size
            self.ball.check_fits(shape)
            if self.step_size is not None:
                check_radius(self.step_size, self.ball.norm, shape)
        return self

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch with perturbed pixels."""
        clean_BCHW = batch.pixels_BCHW
        start_BCHW = self.ball.random_start(clean_BCHW, batch.index_B, rng) if self.random_start else clean_BCHW
        pixels_BCHW = pgd(
            loss(batch),
            clean_BCHW,
            start_BCHW,
            self.ball,
            num_steps=self.num_steps,
            step_size=self.step_size,
            momentum=self.momentum,
        )
        return replace(batch, pixels_BCHW=pixels_BCHW)
