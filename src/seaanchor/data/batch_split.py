"""Which images each process takes in each step: a function of sizes alone, so that resuming needs no state.

A step sees a global batch: `batch_size` images of every process, `accumulation` times over. Which images it holds
depends on its size alone, not on how many processes share it. Legend: N images of the data set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchSplit:
    """How N images are split over steps and processes.

    Args:
        count: N.
        batch_size: images that a process takes at once.
        world: processes.
        accumulation: micro-batches of each process in a step.

    >>> BatchSplit(10, 2, world=2).global_batch_size, BatchSplit(10, 2, world=2).per_epoch
    (4, 3)
    >>> [BatchSplit(10, 2, world=2).for_rank(range(10), 0, rank) for rank in (0, 1)]
    [[([0, 2], False)], [([1, 3], False)]]
    """

    count: int
    batch_size: int
    world: int = 1
    accumulation: int = 1

    @property
    def global_batch_size(self) -> int:
        """Images of a step, over all processes."""
        return self.batch_size * self.world * self.accumulation

    @property
    def largest_batch(self) -> int:
        """The most images that a process has at once: of a small data set fewer than it may take.

        >>> BatchSplit(41, 128).largest_batch, BatchSplit(41, 128, world=2).largest_batch
        (41, 21)
        """
        return min(self.batch_size, math.ceil(self.count / self.world))

    @property
    def per_epoch(self) -> int:
        """Steps in a pass over the data; the last one may have fewer images."""
        return math.ceil(self.count / self.global_batch_size)

    def for_rank(self, order: Sequence[int], number: int, rank: int) -> list[tuple[list[int], bool]]:
        """The micro-batches of one process in one step: lists of images, each with whether it is padding.

        Every image goes to one process. A step at the end may have fewer images than there are micro-batches: one that
        would be empty holds an image of another process as padding, because all processes must take part.

        Args:
            order: of the N images in this pass.
            number: of the step in this pass.
            rank: the process.
        """
        images = order[number * self.global_batch_size : (number + 1) * self.global_batch_size]
        rounds = math.ceil(len(images) / (self.world * self.batch_size))
        micro_batches = [list(images[r * self.world + rank :: rounds * self.world]) for r in range(rounds)]
        return [(mine or list(images[:1]), not mine) for mine in micro_batches]
