"""Partial fine-tuning: the last blocks of the image tower move, with all that comes after them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from seaanchor.adapters.blocks import ordered_blocks, parameters_from, tower_name
from seaanchor.errors import SeaAnchorError, note
from seaanchor.types import Head


@dataclass(frozen=True)
class LastBlocks:
    """Adapter: the last blocks of the image tower, and what comes after them: final norm, pooling and projection.

    Args:
        last_blocks: how many; at least 1.
    """

    last_blocks: int | None = None

    def __post_init__(self) -> None:
        """A number that trains something."""
        if self.last_blocks is None or self.last_blocks < 1:
            raise SeaAnchorError(
                f"adapter last_blocks with {self.last_blocks or 'no'} blocks",
                "how many blocks at the end of the tower are trained: at least 1",
                "set adapter.last_blocks, such as --adapter.last-blocks 2",
            )

    def trainable(self, encoder: nn.Module) -> Iterable[nn.Parameter]:
        """Freeze all else and return the parameters of these blocks and of what comes after them.

        Raises:
            SeaAnchorError: the tower has fewer blocks, or as `ordered_blocks` and `parameters_from`.
        """
        assert self.last_blocks is not None
        blocks, count = ordered_blocks(encoder), self.last_blocks
        if count > len(blocks):
            raise SeaAnchorError(
                f"adapter.last_blocks is {count}, but {tower_name(encoder)} has {len(blocks)} blocks",
                f"a number from 1 to {len(blocks)}",
                "lower it, or use adapter full",
            )
        names, shared = parameters_from(encoder, blocks[-count])
        encoder.requires_grad_(False)
        moved = [parameter for name, parameter in encoder.named_parameters() if name in names]
        for parameter in moved:
            parameter.requires_grad_(True)
        note(_said(encoder, blocks, count, names, shared))
        return moved

    def head(self, policy: nn.Module, head: Head | None) -> Head | None:
        """None: the text tower stays frozen."""
        return None

    def penalty(self, policy: nn.Module) -> Tensor | None:
        """None: the anchor alone holds the tower."""
        return None


def _said(encoder: nn.Module, blocks: Sequence[str], count: int, names: set[str], shared: set[str]) -> str:
    """What counts as a block here, and what is trained."""
    last = blocks[-count:]
    found = Counter(type(encoder.get_submodule(name)).__name__ for name in blocks)
    kinds = ", ".join(f"{number} {kind}" for kind, number in found.items())
    inside = tuple(f"{name}." for name in blocks)
    beyond = {_owner(encoder, name) for name in names if not name.startswith(inside)}
    numbers = {name: parameter.numel() for name, parameter in encoder.named_parameters()}
    trained = sum(numbers[name] for name in names)
    said = (
        f"last_blocks: trains the last {count} of {len(blocks)} blocks ({kinds}), "
        f"from {last[0]} to {last[-1]}, and what comes after ({_few(beyond)}): "
        f"{trained:,} of {sum(numbers.values()):,} parameters"
    )
    return said + (f"; {_few(shared)}, which earlier blocks use, too, stays frozen" if shared else "")


def _owner(encoder: nn.Module, parameter: str) -> str:
    """The layer of a parameter; its own name where it is part of no layer, as a projection may be."""
    owner = parameter.rpartition(".")[0]
    return parameter if next(encoder.get_submodule(owner).children(), None) is not None else owner


def _few(names: set[str]) -> str:
    shown = sorted(names)
    return (", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")) or "nothing"
