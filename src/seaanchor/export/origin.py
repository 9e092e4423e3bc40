"""What a model card can say of where its model comes from: the run, and what was measured.

Whoever calls for an export fills it in; training and evaluation are not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Number:
    """One number of an evaluation, as text: what it is, the model's with its interval, the untouched model's, the
    change, and the images it rests on; empty where there is none."""

    what: str
    value: str
    reference: str = ""
    change: str = ""
    n: str = ""


@dataclass(frozen=True)
class Numbers:
    """What was measured on one data set.

    Attributes:
        dataset: what it is called.
        weights: hash of the image tower that was measured.
        protocol: how, in sentences.
        rows: the numbers.
        failed: self-checks that failed, with which no number must be believed.
    """

    dataset: str
    weights: str
    protocol: str
    rows: tuple[Number, ...]
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """Where a model comes from.

    Attributes:
        settings: of the run that trained it, as its config.yaml has them; None for a model that no run trained.
        steps: that the run did; None where that is not known.
        numbers: of evaluations; the card takes those of the weights that are exported.
        note: what was done to the weights after the run, as a sentence.
        diverged: how the loss of the run left its range by orders of magnitude; empty where it did not.
        images_seen: in those steps, repeats counted; None where that is not known.
    """

    settings: Mapping[str, Any] | None = None
    steps: int | None = None
    numbers: tuple[Numbers, ...] = field(default=())
    note: str = ""
    diverged: str = ""
    images_seen: int | None = None
