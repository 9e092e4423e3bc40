"""The whole image tower moves; the text tower stays frozen."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from seaanchor.types import Head, Needs


@dataclass(frozen=True)
class Full:
    """Every parameter of the image tower."""

    needs: ClassVar[Needs] = Needs(whole_tower=True)

    def trainable(self, encoder: nn.Module) -> Iterable[nn.Parameter]:
        """All parameters of the encoder, asking for gradients."""
        encoder.requires_grad_(True)
        return list(encoder.parameters())

    def head(self, policy: nn.Module, head: Head | None) -> Head | None:
        """None: the text tower stays frozen."""
        return None

    def penalty(self, policy: nn.Module) -> Tensor | None:
        """None: the anchor alone holds the tower."""
        return None
