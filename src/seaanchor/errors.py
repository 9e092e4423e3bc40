"""The one error type users see: what was found, what was expected, what to change. And notes, for what is no error."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys, and those that turn the direction of a text around."""


def is_text(text: str) -> bool:
    """Whether a text can be written as UTF-8, which names of files and JSON's `\\ud800` may not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """The text with bytes that are no UTF-8, as file names may hold them, written as `\\xe9`: so it can be printed and
    stored. Control characters are written so, too, but for tabs and line ends: a terminal would obey them."""
    text = CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # other lone surrogates
        return text.encode("utf-8", "backslashreplace").decode()


PROTECTIONS = re.compile(
    r"weights_only|trust_remote_code|safe_globals|allow_pickle|max_image_pixels|force_download|verify=|token=",
    re.IGNORECASE,
)
"""Words of libraries by which their protections are switched off."""
SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
LONGEST = 300  # characters of what a library says


def said_by(error: Exception | str) -> str:
    """What a library says of an error, on one line, without its advice to switch a protection off: in our message that
    would be our advice.

    >>> said_by(ValueError("it holds a global.  You can set weights_only=False to load it"))
    'it holds a global.'
    """
    sentences = [" ".join(part.split()) for part in SENTENCE.split(str(error))]
    kept = " ".join(part for part in sentences if part and not PROTECTIONS.search(part))
    return (kept or (type(error).__name__ if isinstance(error, Exception) else "it says no more"))[:LONGEST]


class SeaAnchorError(Exception):
    """A problem the user can act on.

    Args:
        found: what is wrong, with the offending value or path.
        expected: what would have been right.
        change: what to do about it.
    """

    def __init__(self, found: str, expected: str, change: str) -> None:
        found, expected, change = printable(found), printable(expected), printable(change)
        super().__init__(f"{found}\n  expected: {expected}\n  change:   {change}")
        self.found, self.expected, self.change = found, expected, change


@contextmanager
def naming(file: object) -> Iterator[None]:
    """Errors from here on name the file whose content they are about, if they do not yet."""
    try:
        yield
    except SeaAnchorError as error:
        if str(file) in error.found:
            raise
        raise SeaAnchorError(f"{file}: {error.found}", error.expected, error.change) from error


@cache
def note(message: str) -> None:
    """Log something the user should know, once in a process however often it comes up; of several processes rank 0
    logs it."""
    if os.environ.get("RANK", "0") == "0":
        logging.getLogger("seaanchor").warning(printable(message), extra={"kind": "note"})
