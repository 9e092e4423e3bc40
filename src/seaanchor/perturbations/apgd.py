"""APGD around a training step's images.

Legend: B batch, C channels, H W pixels.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from seaanchor.attacks.apgd import apgd
from seaanchor.attacks.ball import Ball, Norm
from seaanchor.types import Batch, BindContext, LossOf, Needs


@dataclass(frozen=True)
class APGD:
    """APGD as a training perturbation: raises the objective's attack loss and returns its best point.

    Args:
        ball: norm and radius.
        num_steps: gradient steps.
    """

    ball: Ball
    num_steps: int = 10
    needs: ClassVar[Needs] = Needs(pixel_gradient=True)

    @classmethod
    def from_settings(cls, norm: Norm = "linf", epsilon: float = 2 / 255, num_steps: int = 10) -> "APGD":
        """The perturbation that a configuration describes; the radius in pixel units."""
        return cls(Ball(norm, epsilon), num_steps)

    def config(self) -> dict[str, Any]:
        """The settings that `from_settings` takes."""
        return {"norm": self.ball.norm, "epsilon": self.ball.epsilon, "num_steps": self.num_steps}

    def bind(self, context: BindContext) -> "APGD":
        """The same: the ball fits into the model's images.

        Raises:
            SeaAnchorError: it does not.
        """
        if context.image_size is not None:
            shape = 3, context.image_size, context.image_size
            self.ball.check_fits(shape)
        return self

    def __call__(self, batch: Batch, loss: LossOf, rng: torch.Generator) -> Batch:
        """The batch with perturbed pixels."""
        start_BCHW = self.ball.random_start(batch.pixels_BCHW, batch.index_B, rng)
        attack_loss = loss(batch)
        result = apgd(lambda pixels, row: attack_loss(pixels), batch.pixels_BCHW, start_BCHW, self.ball, self.num_steps)
        return replace(batch, pixels_BCHW=result.pixels_BCHW)
