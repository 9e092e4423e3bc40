"""How the processes of a run start.

`python -m torch.distributed.run`, or any other launcher that sets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT for each process. Without them a run has one process, and everything here does nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from seaanchor.distributed.process_group import ProcessGroup
from seaanchor.distributed.watch import watched_group
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.numbers import variable

START_TIMEOUT = timedelta(minutes=30)  # so long the processes wait for each other to start, and in a collective
EVALUATION_TIMEOUT = timedelta(
    days=2
)  # the others wait while the first process computes intervals; a lost one is noticed all the same


def join_processes(backend: str) -> bool:
    """Join the processes that a launcher announced in the environment.

    Args:
        backend: of torch's default group, `gloo` for a CPU and `nccl` for CUDA.

    Returns:
        Whether this call did it; False where there is one process, or the group exists already.

    Raises:
        SeaAnchorError: the processes do not find each other, or a variable holds no number.
    """
    announced = variable("WORLD_SIZE", 1, least=1)
    variable("RANK", 0)
    if announced == 1 or dist.is_initialized():
        return False
    try:
        dist.init_process_group(backend, timeout=START_TIMEOUT)
    except (dist.DistError, ValueError) as error:
        found = f"{announced} processes were announced and did not find each other: {str(error).splitlines()[0]}"
        change = (
            "start every process, each with its own RANK, and all with the same MASTER_ADDR and "
            "MASTER_PORT that they can reach"
        )
        raise SeaAnchorError(found, f"all {announced} of them", change) from error
    return True


def start_training(device: str | None = None) -> torch.device:
    """Join the processes of a training run and choose this process's device. The group lasts until the process ends.

    Args:
        device: `cpu`, or the type of this machine's accelerator; None: the accelerator where there is one.

    Returns:
        The device of this process: that of its LOCAL_RANK where there are several.

    Raises:
        SeaAnchorError: the machine has no such device or too few of them, or the processes do not find each other.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    here = "cpu" if device == "cpu" or accelerator is None else accelerator.type
    if device not in (None, here):
        change = "leave --device out; choose among several GPUs by CUDA_VISIBLE_DEVICES"
        raise SeaAnchorError(f"--device {device}, but training here runs on {here}", f"cpu or {here}", change)
    torch.backends.cudnn.allow_tf32 = False  # attacks are fp32: a step of 1/255 is near what TF32 rounds away
    chosen = torch.device(here)
    if variable("WORLD_SIZE", 1, least=1) > 1:
        variable("LOCAL_RANK", 0)
        index = device_index(os.environ.get("LOCAL_RANK"), torch.accelerator.device_count())
        if here != "cpu":
            chosen = torch.device(here, index)
            torch.accelerator.set_device_index(index)
    join_processes("nccl" if here == "cuda" else "gloo")
    return chosen


def device_index(local_rank: str | None, visible: int) -> int:
    """Which of a machine's devices a process takes.

    Args:
        local_rank: number of the process on its machine, as the launcher set it.
        visible: devices that the process sees; a scheduler may show each process its own one alone.

    Raises:
        SeaAnchorError: there is no number, or more processes than devices.

    >>> device_index("2", 4), device_index("2", 1)
    (2, 0)
    """
    if local_rank is None:
        raise SeaAnchorError(
            f"WORLD_SIZE is {os.environ.get('WORLD_SIZE')}, but LOCAL_RANK is not set",
            "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each process",
            "set them all, or use a launcher",
        )
    if visible > 1 and int(local_rank) >= visible:
        raise SeaAnchorError(
            f"LOCAL_RANK is {local_rank}, but this machine shows {visible} devices",
            "a device for each process",
            f"start {visible} processes on this machine",
        )
    return int(local_rank) if visible > 1 else 0


@contextmanager
def open_group() -> Iterator[ProcessGroup]:
    """The processes of an evaluation. What travels between them are small tables, so the CPU's backend carries them.

    Raises:
        SeaAnchorError: they do not find each other, or one of them is lost.
    """
    joined_here = join_processes("gloo")
    try:
        with watched_group(EVALUATION_TIMEOUT) as group:
            yield group
    finally:
        if joined_here:
            dist.destroy_process_group()
