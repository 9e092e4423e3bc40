"""The records of the bench: a bar, what measuring it gave, and how the two compare."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "short", "not measured"]


class NotMeasured(Exception):
    """A bar cannot be measured here; the message says why, such as `no GPU`."""


@dataclass(frozen=True)
class Measurement:
    """What measuring a bar gave.

    Attributes:
        value: the number held against the bar.
        quiet: whether the probe moved by at most 10 %; None where the value is counted and noise cannot touch it.
        clock: `processor` seconds, `wall` seconds, or `count`.
        details: further numbers worth keeping, by name.
        note: what a reader of the table must know, in a few words.
    """

    value: float
    quiet: bool | None = None
    clock: Literal["processor", "wall", "count"] = "count"
    details: dict[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """A number that must not be missed, and one that is aimed for; either `at_least` or `at_most`.

    Attributes:
        name: short, unique, with dashes: what `--only` takes.
        what: a line for the table.
        measure: does the work; may raise `NotMeasured`.
        unit: written behind the numbers.
    """

    name: str
    what: str
    measure: Callable[[], Measurement]
    aim: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"bar {self.name}: give either at_least or at_most")

    @property
    def limit(self) -> float:
        """The number that must not be missed."""
        limit = self.at_least if self.at_least is not None else self.at_most
        assert limit is not None, "one of the two is given"
        return limit

    def reaches(self, value: float, wanted: float) -> bool:
        """Whether a value is on the right side of a number."""
        return value >= wanted if self.at_least is not None else value <= wanted


def verdict(bar: Bar, value: float | None) -> Verdict:
    """How a value compares with the bar."""
    if value is None:
        return "not measured"
    return "pass" if bar.reaches(value, bar.limit) else "short"
