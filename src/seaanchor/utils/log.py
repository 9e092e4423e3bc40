"""What the library says while it works: one logger, `seaanchor`. A program decides where its records go.

Progress and notes have level INFO, what the user should look at has level WARNING. A program that configures nothing
sees warnings alone, as with every library; `logging.basicConfig(level=logging.INFO)` shows all, and the command line
calls `log_to_terminal`. Of several processes only rank 0 speaks, except in errors.
"""

import logging
import os
import sys
from functools import cache

from seaanchor.errors import printable

log = logging.getLogger("seaanchor")
"""The library's logger."""

bars: list[object] = []
"""What draws below the lines of a terminal now; then no record replaces the line before it."""
COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


class RankFilter(logging.Filter):
    """Passes the records of rank 0, and errors of any rank."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        return record.levelno >= logging.ERROR or os.environ.get("RANK", "0") == "0"


log.addFilter(RankFilter())


class TerminalHandler(logging.Handler):
    """Writes INFO to stdout as it is, and what is more urgent to stderr with its kind before it (`warning: ...`). On a
    terminal without bars a record of `progress` replaces the line before it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. A closed pipe raises, as it does for `print`."""
        message = printable(record.getMessage())
        if record.levelno >= logging.WARNING:
            from rich.console import Console
            from rich.text import Text

            kind = getattr(record, "kind", record.levelname.lower())
            line = Text.assemble((f"{kind}:", COLOURS.get(kind, "")), " ", message)
            Console(stderr=True).print(line, soft_wrap=True)  # a new one: stderr may have been redirected since
            sys.stderr.flush()
            return
        ends_line = getattr(record, "ends_line", None)
        if ends_line is not None and sys.stdout.isatty() and not bars:
            print(f"\r\033[K{message}", end="\n" if ends_line else "", flush=True)
        else:
            print(message, flush=True)


def log_to_terminal() -> None:
    """Send the library's records to stdout and stderr, for a program that is a command. A second call changes
    nothing."""
    if not any(isinstance(handler, TerminalHandler) for handler in log.handlers):
        log.addHandler(TerminalHandler())
    log.setLevel(logging.INFO)
    log.propagate = False  # a library that configures the root logger would print each line a second time


def progress(text: str, last: bool) -> None:
    """Log how far a long piece of work is.

    Args:
        text: one line.
        last: whether the work is done, so that a terminal keeps the line.
    """
    log.info(text, extra={"ends_line": last})


@cache
def warn_once(message: str) -> None:
    """Log a warning, once in a process however often it comes up."""
    log.warning(message)
