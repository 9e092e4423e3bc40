"""How the processes of a run start.

`python -m torch.distributed.run`, or any other launcher that sets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT for each process. Without them a run has one process, and everything here does nothing.
"""

import contextlib
import os
import time
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
LINGER = timedelta(seconds=30)  # so long a process that fails before it joins waits for the others to hear of it
BEFORE, SEEN = "before", "seen"
_met: list[bool] = []  # whether this process has met the others, or tried to


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
    _met.append(True)
    try:
        store, rank, world = next(iter(dist.rendezvous("env://", timeout=START_TIMEOUT)))
        failed = _others_failures(dist.PrefixStore(BEFORE, store), rank, world)
        if not failed:
            dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=START_TIMEOUT)
    except (dist.DistError, ValueError) as error:
        found = f"{announced} processes were announced and did not find each other: {str(error).splitlines()[0]}"
        change = (
            "start every process, each with its own RANK, and all with the same MASTER_ADDR and "
            "MASTER_PORT that they can reach"
        )
        raise SeaAnchorError(found, f"all {announced} of them", change) from error
    if failed:
        raise SeaAnchorError("; ".join(failed), f"all {announced} processes", "see what that process says")
    return True


def _others_failures(store: dist.Store, rank: int, world: int) -> list[str]:
    """Which processes failed before they joined, once all have come."""
    store.set(f"failure of {rank}", "")
    store.wait([f"failure of {other}" for other in range(world)], START_TIMEOUT)
    said = [store.get(f"failure of {other}").decode() for other in range(world)]
    if any(said):
        store.add(SEEN, 1)
    return [f"process {other} of {world} ended before it began: {text}" for other, text in enumerate(said) if text]


def end_others(error: Exception) -> None:
    """Let the processes that were announced beside this one know that it ends before it joined them, so that they do
    not wait for it. Does nothing where it has joined, or where there is one process."""
    announced = os.environ.get("WORLD_SIZE", "").strip() or "1"
    if not announced.isdecimal() or int(announced) == 1 or _met or dist.is_initialized():
        return
    _met.append(True)
    text = error.found if isinstance(error, SeaAnchorError) else f"{type(error).__name__}: {error}".splitlines()[0]
    with contextlib.suppress(dist.DistError, RuntimeError, ValueError):  # the others may never come
        store, rank, world = next(iter(dist.rendezvous("env://", timeout=LINGER)))
        told = dist.PrefixStore(BEFORE, store)
        told.set(f"failure of {rank}", text)
        told.add(SEEN, 1)
        until = time.monotonic() + LINGER.total_seconds()
        while rank == 0 and told.add(SEEN, 0) < world and time.monotonic() < until:  # it hosts what they read
            time.sleep(0.1)


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
        able = "cpu" if accelerator is None else f"cpu or {here}"
        raise SeaAnchorError(f"--device {device}, but training here runs on {here}", able, change)
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
