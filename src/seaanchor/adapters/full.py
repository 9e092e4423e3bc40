"""The whole image tower moves; the text tower stays frozen."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Full:
    """Every parameter of the image tower."""

    def trainable(self, encoder: nn.Module) -> Iterable[nn.Parameter]:
        """All parameters of the encoder, asking for gradients."""
        encoder.requires_grad_(True)
        return list(encoder.parameters())
