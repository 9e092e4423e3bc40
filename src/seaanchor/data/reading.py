"""Who reads the images while the step before them runs: a thread of this process, or processes of their own.

Whoever it is and however long it takes, batches come in the order that was asked for.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.cores import available_cores
from seaanchor.utils.log import warn_once
from seaanchor.utils.numbers import variable

T = TypeVar("T")
AHEAD = 2  # batches that are read or ready while another is worked on
PIECE = 8  # images that a thread reads before it looks for other work
MOST_THREADS = 8  # of one process; beyond, they wait for each other's Python


def check_workers(workers: int) -> None:
    """Say once if more loading processes than cores are asked for.

    Raises:
        SeaAnchorError: no number of processes.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise SeaAnchorError(
            f"workers is {workers!r}", "a number of loading processes", "0 reads in threads of this process"
        )
    every, cores = workers * _processes(), available_cores()
    if every > cores:
        fitting = cores // _processes()
        warn_once(
            f"{every} loading processes share {cores} available core{'s' * (cores > 1)}: all are started, which pays "
            f"only where they wait for a disk or a network; otherwise use --workers {fitting} or fewer"
        )


def _processes() -> int:
    """Processes of this run on this machine."""
    return variable("LOCAL_WORLD_SIZE", 1, least=1)


def reading_threads() -> int:
    """Threads that read ahead where no processes do: one beside a step on the processor, which needs the cores itself,
    and as many as there are cores to spare beside one on a GPU."""
    if not torch.cuda.is_available():
        return 1
    return max(1, min(MOST_THREADS, available_cores() // _processes() - 1))


def by_threads(
    read: Callable[[int], T], lists: Sequence[Sequence[int]], collate: Callable[[Sequence[T]], Any], threads: int
) -> Iterator[Any]:
    """A batch of each list of indices, the next `AHEAD` of them being read meanwhile. One list alone, or 0 threads:
    read when it is asked for."""
    if len(lists) <= 1 or threads == 0:
        for indices in lists:
            yield collate([read(index) for index in indices])
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="seaanchor-images")

    def several(indices: Sequence[int]) -> list[T]:
        return [read(index) for index in indices]

    def together(pieces: Sequence[Future[list[T]]]) -> Any:
        return collate([sample for piece in pieces for sample in piece.result()])  # begun before: none waits for this

    def begin(indices: Sequence[int]) -> Future[Any]:
        pieces = [pool.submit(several, indices[i : i + PIECE]) for i in range(0, len(indices), PIECE)]
        return pool.submit(together, pieces)

    begun: deque[Future[Any]] = deque()
    try:
        for indices in lists:
            begun.append(begin(indices))
            if len(begun) > AHEAD:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:  # also where nobody wants the rest
        pool.shutdown(wait=True, cancel_futures=True)


def by_processes(
    dataset: Dataset, lists: Sequence[Sequence[int]], collate: Callable[..., Any], workers: int
) -> Iterator[Any]:
    """The same by processes, which read `AHEAD` batches each.

    Raises:
        SeaAnchorError: one of them ended.
    """
    rng = torch.Generator()  # or the loader would draw its seed from the global state, which training must restore
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # `check_workers` said it
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=[list(indices) for indices in lists],
            num_workers=workers,
            collate_fn=collate,
            generator=rng,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=AHEAD,
        )
        batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise SeaAnchorError(
                f"a loading process ended ({' '.join(str(error).split())[:200]})",
                "processes that live as long as the run",
                "look for too little memory, or too little shared memory (/dev/shm); try fewer --workers, or 0",
            ) from error
        yield batch
