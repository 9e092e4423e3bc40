"""Which part of a training step is running, for whoever counts what it takes."""

from collections.abc import Iterator
from contextlib import contextmanager

ATTACK, REFERENCE, UPDATE, OPTIMIZER, DUAL = "attack", "reference", "update", "optimizer", "dual"
OTHER = "other"
_running = [OTHER]


@contextmanager
def part(name: str) -> Iterator[None]:
    """Say that a part of the step runs inside; the innermost counts. Also a decorator.

    >>> with part(ATTACK):
    ...     current_part()
    'attack'
    >>> current_part()
    'other'
    """
    _running.append(name)
    try:
        yield
    finally:
        _running.pop()


def current_part() -> str:
    """The part that runs now; `other` outside of a step."""
    return _running[-1]
