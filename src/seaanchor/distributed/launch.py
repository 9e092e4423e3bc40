"""Several processes on one evaluation, as `python -m torch.distributed.run` starts them; alone, everything here does
nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from seaanchor.distributed.process_group import ProcessGroup, company
from seaanchor.errors import SeaAnchorError

MEETING = timedelta(minutes=30)  # so long the processes wait for each other to start
PATIENCE = timedelta(
    days=2
)  # the others wait while the first process draws conclusions; a lost one is noticed all the same


@contextmanager
def open_group() -> Iterator[ProcessGroup]:
    """The processes that a launcher started, or this one alone. What travels between them are small tables, so the
    CPU's backend does.

    Raises:
        SeaAnchorError: they do not find each other, or one of them is lost.
    """
    announced = int(os.environ.get("WORLD_SIZE", "1"))
    mine = announced > 1 and not dist.is_initialized()
    if mine:
        try:
            dist.init_process_group("gloo", timeout=MEETING)
        except (dist.DistError, ValueError) as error:
            found = f"{announced} processes were announced and did not find each other: {str(error).splitlines()[0]}"
            change = "start every process, each with its own RANK, and all with the same MASTER_ADDR and MASTER_PORT"
            raise SeaAnchorError(found, f"all {announced} of them", change) from error
    try:
        with company(PATIENCE) as group:
            yield group
    finally:
        if mine:
            dist.destroy_process_group()
