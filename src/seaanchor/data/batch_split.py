"""Which images each process takes of each batch: a function of sizes alone, so that no state is needed to go on with
it.

A *whole batch* is what one update sees: batch_size images of every process, `accumulation` times over. Which images it
holds depends on its size, not on how it is put together. Legend: N images of the data set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchSplit:
    """How N images are dealt out.

    Args:
        count: N.
        batch_size: images that a process takes at once.
        world: processes.
        accumulation: how often they do so for one update.

    >>> BatchSplit(10, 2, world=2).whole, BatchSplit(10, 2, world=2).per_epoch
    (4, 3)
    >>> [BatchSplit(10, 2, world=2).hands(range(10), 0, rank) for rank in (0, 1)]
    [[([0, 2], True)], [([1, 3], True)]]
    """

    count: int
    batch_size: int
    world: int = 1
    accumulation: int = 1

    @property
    def whole(self) -> int:
        """Images of an update, of all processes together."""
        return self.batch_size * self.world * self.accumulation

    @property
    def per_epoch(self) -> int:
        """Updates' batches in a pass over the data; the last one may be smaller."""
        return math.ceil(self.count / self.whole)

    def hands(self, order: Sequence[int], number: int, rank: int) -> list[tuple[list[int], bool]]:
        """What a process takes of one whole batch: one or more lists of images, and whether each counts.

        Every image is dealt once. A short batch may have fewer images than there are hands: one that would be empty
        holds an image that another process has, too, and does not count, because all processes must take part.

        Args:
            order: of the N images in this pass.
            number: of the whole batch in this pass.
            rank: the process.
        """
        images = order[number * self.whole : (number + 1) * self.whole]
        rounds = math.ceil(len(images) / (self.world * self.batch_size))
        dealt = [list(images[r * self.world + rank :: rounds * self.world]) for r in range(rounds)]
        return [(hand or list(images[:1]), bool(hand)) for hand in dealt]
