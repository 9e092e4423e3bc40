"""A process that fails before it has met the others does not leave them waiting."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def tells_others(call: Callable[P, R]) -> Callable[P, R]:
    """A call whose error the processes that were announced beside this one hear of, where it comes before they met."""

    @wraps(call)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            from seaanchor.distributed.launch import end_others  # it imports torch

            end_others(error)
            raise

    return told
