"""The processes of a run and the small values that they exchange.

Only a few numbers travel here, so the CPU's backend carries them and no device waits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class ProcessGroup:
    """This process and the others of its run. With a single process every method does nothing.

    Attributes:
        rank: number of this process.
        world: number of processes.
        handle: torch's group that carries what the processes agree on; None is torch's default group.
    """

    rank: int = 0
    world: int = 1
    handle: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            dist.barrier(group=self.handle)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sum of every process's numbers, exact for whole numbers."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums, group=self.handle)
        return sums.tolist()

    def agree(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        box = [value]
        if self.world > 1:
            dist.broadcast_object_list(box, src=0, group=self.handle)
        return box[0]

    def exchange(self, value: Any) -> list[Any]:
        """Every process's value, in all of them, in the order of ranks."""
        values: list[Any] = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value, group=self.handle)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the first; nothing in the others."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.gather_object(value, values if self.rank == 0 else None, dst=0, group=self.handle)
        return values if self.rank == 0 else []


ONE_PROCESS = ProcessGroup()


def gathered(group: ProcessGroup, records: Any) -> Any:
    """Records, or lists of them, whose tensors (B, ...) hold the rows of all processes.

    Args:
        group: the processes; all of them must call this.
        records: of this process. What is None in one process must be None in all, unless the process has padding only.

    Returns:
        The records of all processes in the first one; the process's own records in the others.
    """
    if group.world == 1:
        return records
    of_all_ranks = group.gather(_apply(lambda tensor: tensor.detach().cpu(), records))
    return _joined(of_all_ranks) if of_all_ranks else records


def _apply(change: Callable[[Tensor], Tensor], record: Any) -> Any:
    if isinstance(record, Tensor):
        return change(record)
    if isinstance(record, list):
        return [_apply(change, item) for item in record]
    if is_dataclass(record):
        return replace(record, **{f.name: _apply(change, getattr(record, f.name)) for f in fields(record)})  # type: ignore[type-var]
    return record


def _joined(records: Sequence[Any]) -> Any:
    present = [record for record in records if record is not None]
    if not present:
        return None
    if isinstance(present[0], Tensor):
        return torch.cat(present)
    if isinstance(present[0], list):
        return [_joined(items) for items in zip(*present, strict=True)]
    return replace(
        present[0], **{f.name: _joined([getattr(record, f.name) for record in present]) for f in fields(present[0])}
    )
