"""The one error type users see: what was found, what was expected, what to change. And notes, for what is no error."""

import logging
import os
from functools import cache


class SeaAnchorError(Exception):
    """A problem the user can act on.

    Args:
        found: what is wrong, with the offending value or path.
        expected: what would have been right.
        change: what to do about it.
    """

    def __init__(self, found: str, expected: str, change: str) -> None:
        super().__init__(f"{found}\n  expected: {expected}\n  change:   {change}")
        self.found, self.expected, self.change = found, expected, change


@cache
def note(message: str) -> None:
    """Log something the user should know, once in a process however often it comes up; of several processes rank 0
    logs it."""
    if os.environ.get("RANK", "0") == "0":
        logging.getLogger("seaanchor").warning(message, extra={"kind": "note"})
