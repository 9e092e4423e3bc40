"""How the other processes learn that one of them is gone.

Liveness has a connection and a thread of its own, because a process that waits for a device's collective does nothing
else. Every process sends a sign of life once a second, the first one reads them, and whoever learns of a loss ends with
an error that names the lost rank.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from seaanchor.distributed.process_group import ONE_PROCESS, ProcessGroup
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import log

BEAT = 1.0  # seconds between signs of life
SILENCE = 60.0  # seconds without one after which a process is lost; a busy machine may stop a process for some seconds
SUSPICION = 4.0  # the same once another process has lost its connection
GRACE = 15.0  # seconds in which a process may end by itself after another was lost
VERDICT = "verdict"


@contextmanager
def watched_group(timeout: timedelta | None = None) -> Iterator[ProcessGroup]:
    """The processes of torch's default group, watched: if one is lost, or raises, the others raise too.

    Args:
        timeout: how long they wait for what they agree on; by default as long as for everything else.

    Raises:
        SeaAnchorError: another process is gone; it names which.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        yield ONE_PROCESS
        return
    rank, world = dist.get_rank(), dist.get_world_size()
    on_cpu = dist.get_backend() == "gloo" and timeout is None
    group = ProcessGroup(rank, world, None if on_cpu else dist.new_group(backend="gloo", timeout=timeout))
    try:
        watch = Watch(rank, world, _store(group))
    except RuntimeError as error:
        raise _lost(f"a process of {world} was lost before they began") from error
    try:
        yield group
    except BaseException as error:
        verdict = _find_cause(watch) if _may_come_from_another(error) else None
        if verdict is None:
            watch.announce(error)
            raise
        watch.end(linger=True)
        raise _lost(verdict) from error
    watch.end()


def _find_cause(watch: "Watch") -> str | None:
    """`Watch.find_cause`, undisturbed by a launcher, which sends SIGTERM to the other processes as soon as one is
    lost."""
    if threading.current_thread() is not threading.main_thread():
        return watch.find_cause()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        return watch.find_cause()
    finally:
        signal.signal(signal.SIGTERM, before)


def _may_come_from_another(error: BaseException) -> bool:
    """Whether the loss of another process can cause this error: a broken connection is a plain RuntimeError."""
    return isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)


def _lost(verdict: str) -> SeaAnchorError:
    return SeaAnchorError(
        verdict,
        "all processes until the end",
        "see what that process or its machine says; then go on with --resume auto",
    )


def _store(group: ProcessGroup) -> dist.TCPStore:
    """A connection of every process to the first one, which outlives broken groups."""
    host, wait = os.environ.get("MASTER_ADDR", "localhost"), timedelta(seconds=SILENCE)
    if group.first:
        store = dist.TCPStore(host, 0, group.world, True, wait, wait_for_workers=False)
        group.agree(store.port)
        return store
    return dist.TCPStore(host, group.agree(None), group.world, False, wait, wait_for_workers=False)


def _end_process(verdict: str) -> None:
    log.error(_lost(verdict))
    os._exit(2)


class Watch:
    """Sends signs of life, reads those of the others, and ends this process if it hangs after another was lost.

    Args:
        rank: number of this process.
        world: number of processes.
        store: shared by all of them, hosted by the first.
        end_process: ends a process that hangs; takes the verdict.
    """

    def __init__(
        self, rank: int, world: int, store: dist.TCPStore, end_process: Callable[[str], object] = _end_process
    ) -> None:
        self.rank, self.world, self.verdict, self._store = rank, world, "", store
        self._end_process = end_process
        self._over = threading.Event()
        self._beats = {other: (-1, time.monotonic()) for other in range(world)}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def announce(self, error: BaseException) -> None:
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
        if self.rank == 0:  # the first process hosts the verdict, and the others need time to read it
            time.sleep(3 * BEAT)
        self._over.set()

    def find_cause(self) -> str | None:
        """Which process is gone, after a connection broke; None if all of them are alive."""
        with contextlib.suppress(RuntimeError):
            self._store.add("suspicion", 1)
        until = time.monotonic() + SUSPICION + 10 * BEAT  # on a busy machine signs of life come late
        while not self.verdict and time.monotonic() < until:
            time.sleep(BEAT / 10)
        return self.verdict or None

    def _run(self) -> None:
        while not self._over.wait(BEAT):
            try:
                self._store.add(f"beat {self.rank}", 1)
                if self.rank == 0:
                    self._read_beats()
                if self._store.check([VERDICT]):
                    self.verdict = self._store.get(VERDICT).decode()
            except RuntimeError:  # its host is gone
                self.verdict = f"process 0 of {self.world} was lost"
            if self.verdict:
                if not self._over.wait(GRACE):
                    self._end_process(self.verdict)
                return

    def _read_beats(self) -> None:
        limit, now = SUSPICION if self._store.add("suspicion", 0) else SILENCE, time.monotonic()
        for other in range(1, self.world):
            beats, (before, since) = self._store.add(f"beat {other}", 0), self._beats[other]
            if beats != before:
                self._beats[other] = beats, now
            elif now - since > limit and not self._store.add(f"left {other}", 0):
                self._store.compare_set(
                    VERDICT, "", f"process {other} of {self.world} was lost: no sign of life for {now - since:.0f} s"
                )
