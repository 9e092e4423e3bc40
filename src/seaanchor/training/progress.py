"""What the user at the terminal sees and does: progress with the time left, and Ctrl-C."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seaanchor.utils.log import log, progress

SHOWN = {"clean_distance": "clean distance", "kl": "KL", "orthogonality": "‖WWᵀ − 1‖"}
WORTH_SAYING = 0.1  # a share of the time spent waiting for images


class Progress:
    """Shows log rows: a live line on a terminal, plain lines elsewhere.

    Args:
        total: steps of the run.
        done: steps already done when the run was resumed.
        enabled: whether this process prints.
    """

    def __init__(self, total: int, done: int, enabled: bool) -> None:
        self.total, self.first, self.enabled = total, done, enabled
        self.started = time.monotonic()

    def show(self, row: dict[str, Any]) -> None:
        """Log one row: how far, how well, how fast, how long still."""
        if not self.enabled:
            return
        done = row["step"] - self.first
        left = (time.monotonic() - self.started) / done * (self.total - row["step"])
        text = f"{row['step']:>6}/{self.total}  loss {row['adversarial_loss']:.3f}"
        for key, name in SHOWN.items():
            text += f"  {name} {row[key]:.3f}" if key in row else ""
        if "multiplier" in row:  # only then ρ binds
            text += f"  {row['violation_rate']:.0%} above ρ {row['rho']:g}  λ {row['multiplier']:.2f}"
        text += f"  {row['images_per_s']:.0f} img/s"
        if row.get("waiting", 0) >= WORTH_SAYING:
            text += f" ({row['waiting']:.0%} of the time waiting for them)"
        text += f"  {duration(left)} left"
        progress(text, last=row["step"] == self.total)


def duration(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes where it takes that long.

    >>> duration(65), duration(3 * 3600 + 61)
    ('1:05', '3 h 01')
    """
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d}"
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


class Clock:
    """Images of a run in all, and images per second of training itself, between two log lines: the time that passes
    under `paused` does not count.

    Args:
        seen: images that the steps before saw; None where that is not known.
    """

    def __init__(self, seen: int | None = 0) -> None:
        self.seen = seen
        self.images, self.waited, self.since = 0, 0.0, time.monotonic()

    def count(self, images: int) -> None:
        """Add the images of a step in all processes."""
        self.images += images
        self.seen = None if self.seen is None else self.seen + images

    @property
    def total(self) -> dict[str, int]:
        """All images so far, repeats counted, as log and checkpoints hold them; empty where that is not known."""
        return {} if self.seen is None else {"images_seen": self.seen}

    def read(self, processes: int) -> dict[str, float]:
        """Speed of all processes together, training seconds since the last reading and the share of them that passed
        under `waiting`, and all images so far; starts anew."""
        seconds = max(time.monotonic() - self.since, 1e-9)
        row = {"images_per_s": self.images * processes / seconds, "seconds": seconds, "waiting": self.waited / seconds}
        row |= self.total
        self.images, self.waited, self.since = 0, 0.0, time.monotonic()
        return row

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens inside is waiting for images."""
        started = time.monotonic()
        yield
        self.waited += time.monotonic() - started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        started = time.monotonic()
        yield
        self.since += time.monotonic() - started


@contextmanager
def stop_on_interrupt() -> Iterator[list[bool]]:
    """Ctrl-C, or a scheduler's SIGTERM, ends the run after the current step, saved; a second Ctrl-C ends it at once.

    Yields a list of one bool, true once asked to stop. Outside the main thread, where Python delivers no signals, it
    stays false.
    """
    interrupted, owner = [False], os.getpid()

    def handler(signum: int, frame: object) -> None:
        if (
            os.getpid() != owner
        ):  # a data-loading process that inherited this: Ctrl-C is the trainer's business, SIGTERM is for it
            if signum == signal.SIGTERM:
                os._exit(0)
            return
        if interrupted[0]:
            if signum == signal.SIGINT:
                raise KeyboardInterrupt
            return  # a scheduler sends SIGTERM to all, and a launcher to its processes once more
        interrupted[0] = True
        log.info("\nstopping after this step and saving; Ctrl-C again to stop at once")

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous = {signum: signal.signal(signum, handler) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for signum, old in previous.items():
            signal.signal(signum, old)
