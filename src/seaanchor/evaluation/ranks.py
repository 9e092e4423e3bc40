"""Several processes on one evaluation, as `python -m torch.distributed.run` starts them; alone, everything here does nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

PATIENCE = timedelta(days=2)  # the others wait while the first process draws conclusions


@dataclass(frozen=True)
class Ranks:
    """This process's number and how many there are."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def agree(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the first; nothing in the others."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.gather_object(value, values if self.first else None, dst=0)
        return values if self.first else []

    def barrier(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """The processes that a launcher started, or this one alone. What travels between them are small tables, so the CPU's backend does."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
    elif dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()
