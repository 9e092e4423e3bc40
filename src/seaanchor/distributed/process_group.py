"""The processes of a run: what they agree on, and how the others learn that one of them is gone.

What travels here are a few numbers between the hosts, so the CPU's backend carries them and no device waits. Liveness
has a connection and a thread of its own, because a process that waits for a device's collective does nothing else:
every process beats once a second, the first one listens, and whoever learns of a loss ends with an error.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log

BEAT = 1.0  # seconds between signs of life
SILENCE = 60.0  # seconds without one after which a process is lost; a busy machine may stop a process for some seconds
SUSPICION = 4.0  # the same once another process has lost its connection
GRACE = 15.0  # seconds in which a process may end by itself after another was lost
VERDICT = "verdict"


@dataclass(frozen=True)
class ProcessGroup:
    """This process's number, how many there are, and the group that carries what they agree on; alone, everything here
    does nothing."""

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

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the first; nothing in the others."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.gather_object(value, values if self.rank == 0 else None, dst=0, group=self.handle)
        return values if self.rank == 0 else []


def gathered(group: ProcessGroup, records: Any) -> Any:
    """Records, or lists of them, whose tensors (B, ...) hold the rows of all processes, in the first; the others keep
    theirs.

    What is None in one process must be so in all, unless the process has no row that counts.
    """
    if group.world == 1:
        return records
    everyones = group.gather(_apply(lambda tensor: tensor.detach().cpu(), records))
    return _joined(everyones) if everyones else records


def _apply(change: Callable[[Tensor], Tensor], record: Any) -> Any:
    if isinstance(record, Tensor):
        return change(record)
    if isinstance(record, list):
        return [_apply(change, item) for item in record]
    if is_dataclass(record):
        return replace(record, **{f.name: _apply(change, getattr(record, f.name)) for f in fields(record)})  # type: ignore[type-var]
    return record


def _joined(records: Sequence[Any]) -> Any:
    there = [record for record in records if record is not None]
    if not there:
        return None
    if isinstance(there[0], Tensor):
        return torch.cat(there)
    if isinstance(there[0], list):
        return [_joined(items) for items in zip(*there, strict=True)]
    return replace(
        there[0], **{f.name: _joined([getattr(record, f.name) for record in there]) for f in fields(there[0])}
    )


@contextmanager
def company(patience: timedelta | None = None) -> Iterator[ProcessGroup]:
    """The processes of the default group, watched: if one is lost, or raises, the others raise too.

    Args:
        patience: how long they wait for what they agree on; by default as long as for everything else.

    Raises:
        SeaAnchorError: another process is gone; it names which.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        yield ProcessGroup()
        return
    rank, world = dist.get_rank(), dist.get_world_size()
    handle = (
        None if dist.get_backend() == "gloo" and patience is None else dist.new_group(backend="gloo", timeout=patience)
    )
    group = ProcessGroup(rank, world, handle)
    try:
        watch = Watch(rank, world, _store(group))
    except RuntimeError as error:
        raise _lost(f"a process of {world} was lost before they began") from error
    try:
        yield group
    except BaseException as error:
        verdict = _explained(watch) if _may_be_anothers(error) else None
        if verdict is None:
            watch.tell(error)
            raise
        watch.end(linger=True)
        raise _lost(verdict) from error
    watch.end()


def _explained(watch: "Watch") -> str | None:
    """`explain`, undisturbed by a launcher, which sends SIGTERM to all that are left as soon as one is lost."""
    if threading.current_thread() is not threading.main_thread():
        return watch.explain()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        return watch.explain()
    finally:
        signal.signal(signal.SIGTERM, before)


def _may_be_anothers(error: BaseException) -> bool:
    """Whether a lost process can show itself so: a broken connection is a plain RuntimeError."""
    return isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)


def _lost(verdict: str) -> SeaAnchorError:
    return SeaAnchorError(
        verdict,
        "all processes until the end",
        "see what that process or its machine says; then go on with --resume auto",
    )


def _store(group: ProcessGroup) -> dist.TCPStore:
    """A connection of every process to the first one, which outlives broken groups."""
    host, first = os.environ.get("MASTER_ADDR", "localhost"), group.rank == 0
    wait = timedelta(seconds=SILENCE)
    if first:
        store = dist.TCPStore(host, 0, group.world, True, wait, wait_for_workers=False)
        group.agree(store.port)
        return store
    return dist.TCPStore(host, group.agree(None), group.world, False, wait, wait_for_workers=False)


class Watch:
    """Beats, listens to the others, and ends this process if it does not end by itself after another was lost.

    Args:
        rank, world: this process's number and how many there are.
        store: shared by all of them, hosted by the first.
        end_process: what ends a process that hangs; takes the verdict.
    """

    def __init__(self, rank: int, world: int, store: dist.TCPStore, end_process=None) -> None:
        self.rank, self.world, self.verdict, self._store = rank, world, "", store
        self._end_process = end_process or _end_process
        self._over = threading.Event()
        self._beats = {other: (-1, time.monotonic()) for other in range(world)}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def tell(self, error: BaseException) -> None:
        """Let the others know that this process ends with an error."""
        text = error.found if isinstance(error, SeaAnchorError) else f"{type(error).__name__}: {error}".splitlines()[0]
        with contextlib.suppress(RuntimeError):
            self._store.compare_set(VERDICT, "", f"process {self.rank} of {self.world} ended: {text}")
        self._linger()

    def end(self, linger: bool = False) -> None:
        """This process needs the others no more; with `linger`, they may still need to read the verdict."""
        with contextlib.suppress(RuntimeError):
            self._store.add(f"left {self.rank}", 1)
        if linger:
            self._linger()
        self._over.set()

    def _linger(self) -> None:
        if self.rank == 0:  # the verdict goes with it
            time.sleep(3 * BEAT)
        self._over.set()

    def explain(self) -> str | None:
        """Which process is gone, after a connection broke; None if all of them go on living."""
        with contextlib.suppress(RuntimeError):
            self._store.add("suspicion", 1)
        until = time.monotonic() + SUSPICION + 10 * BEAT  # a busy machine beats late
        while not self.verdict and time.monotonic() < until:
            time.sleep(BEAT / 10)
        return self.verdict or None

    def _run(self) -> None:
        while not self._over.wait(BEAT):
            try:
                self._store.add(f"beat {self.rank}", 1)
                if self.rank == 0:
                    self._listen()
                if self._store.check([VERDICT]):
                    self.verdict = self._store.get(VERDICT).decode()
            except RuntimeError:  # its host is gone
                self.verdict = f"process 0 of {self.world} was lost"
            if self.verdict:
                if not self._over.wait(GRACE):
                    self._end_process(self.verdict)
                return

    def _listen(self) -> None:
        limit, now = SUSPICION if self._store.add("suspicion", 0) else SILENCE, time.monotonic()
        for other in range(1, self.world):
            beats, (before, since) = self._store.add(f"beat {other}", 0), self._beats[other]
            if beats != before:
                self._beats[other] = beats, now
            elif now - since > limit and not self._store.add(f"left {other}", 0):
                self._store.compare_set(
                    VERDICT, "", f"process {other} of {self.world} was lost: no sign of life for {now - since:.0f} s"
                )


def _end_process(verdict: str) -> None:
    log.error(_lost(verdict))
    os._exit(2)
