"""Stages of long work: bars with the time left on a terminal, lines in the log elsewhere.

A stage knows how much it has to do, and whoever does it says so by `tick`. Outside a stage that counts the same thing
`tick` does nothing, so that inner loops need not know who watches.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from seaanchor.utils import log as terminal
from seaanchor.utils.log import TerminalHandler, log

if TYPE_CHECKING:
    from rich.progress import Progress

LIVE, PLAIN = 0.2, 30.0  # seconds between two looks at a stage, on a terminal and elsewhere
_open: list["Stage"] = []
_bars: list["Progress"] = []  # one at most


class Stage:
    """A piece of work that is under way.

    Args:
        title: what it is.
        total: how much there is to do.
        unit: of what, such as `images`.
        lines: whether it says so by lines where there is no terminal.
    """

    def __init__(self, title: str, total: int, unit: str, lines: bool = True) -> None:
        self.title, self.total, self.unit, self.lines, self.done = title, total, unit, lines, 0
        self.begun = self.shown = time.monotonic()
        self.task = _bars[0].add_task(title, total=total, unit=unit) if _bars else None

    def advance(self, count: int) -> None:
        """Say that so many more are done; shown now and then."""
        self.done = min(self.done + count, self.total)
        now = time.monotonic()
        if now - self.shown < (PLAIN if self.task is None else LIVE):
            return
        self.shown = now
        if self.task is not None:
            _bars[0].update(self.task, completed=self.done, refresh=True)
        elif self.lines:
            left = (now - self.begun) / max(self.done, 1) * (self.total - self.done)
            log.info(f"  {self.title}: {self.done:,} of {self.total:,} {self.unit}, {left:.0f} s left")


def tick(unit: str, count: int = 1) -> None:
    """Say that so much more of the innermost stage is done, if that is what it counts."""
    if _open and _open[-1].unit == unit:
        _open[-1].advance(count)


@contextmanager
def stage(title: str, total: int, unit: str, lines: bool = True) -> Iterator[None]:
    """What happens inside is a stage; stages may lie inside each other.

    Args:
        title: what it is.
        total: how much there is to do.
        unit: what `tick` counts inside.
        lines: whether there are lines of it where there is no terminal.
    """
    outermost = not _bars and on_terminal()
    if outermost:
        _bars.append(_new_bars())
        terminal.bars.append(_bars[0])
        _bars[0].start()
    one = Stage(title, total, unit, lines)
    _open.append(one)
    try:
        yield
    finally:
        _open.remove(one)
        if one.task is not None:
            _bars[0].remove_task(one.task)
        if outermost:
            terminal.bars.clear()
            _bars.pop().stop()


def on_terminal() -> bool:
    """Whether a command shows this program's records on a terminal."""
    first = os.environ.get("RANK", "0") == "0"
    return first and sys.stdout.isatty() and any(isinstance(handler, TerminalHandler) for handler in log.handlers)


def _new_bars() -> "Progress":
    """Bars that are drawn when a stage says so, by no thread of their own, and leave nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(*columns, console=Console(), transient=True, auto_refresh=False)
