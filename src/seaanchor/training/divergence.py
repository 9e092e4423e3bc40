"""Whether a run's loss stays where it began, or leaves by orders of magnitude, and whether its encoder still tells
images apart: finite numbers can be worthless, too."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from math import sqrt
from statistics import fmean
from typing import Any

from seaanchor.utils.log import log

FACTOR = 100.0  # how many times as large as at the start a loss may become
SMALLEST = 1.0  # what a start counts at least: losses near 0 rise by chance
COLLAPSED = 0.05  # share of the reference's spread, below which images are one point to an encoder
NOISE = 3.0  # standard errors, below which a rise may be chance
START = "start_loss"
"""Key of the log line that holds the loss of the first step, which is that of the untrained model."""


@dataclass(frozen=True)
class Divergence:
    """Where the loss first left its range.

    Attributes:
        step: of the log line.
        loss: there.
        start: the loss of the first step.
        last: the loss of the last log line.
    """

    step: int
    loss: float
    start: float
    last: float

    def __str__(self) -> str:
        return (
            f"the loss was {self.start:.3g} at the start, {self.loss:.3g} at step {self.step:,} and {self.last:.3g} "
            "at the end"
        )


def divergence(rows: Iterable[Mapping[str, Any]]) -> Divergence | None:
    """Where the loss of a run exceeded `FACTOR` times that of its start, by its log; None where it never did.

    Args:
        rows: lines of the log in order. Without the loss of the first step the first that was logged counts.
    """
    start, found, last = None, None, 0.0
    for row in rows:
        loss = row.get(START, row.get("adversarial_loss"))
        if not isinstance(loss, int | float):
            continue
        start, last = loss if start is None else start, loss
        if found is None and abs(loss) > FACTOR * max(abs(start), SMALLEST):
            found = (row["step"], loss)
    return None if found is None or start is None else Divergence(*found, start, last)


def divergence_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """What a model card and the end of a run say of it, and of an encoder that collapsed; empty where neither is so."""
    logged = list(rows)
    found = divergence(logged)
    return "; ".join(text for text in ("" if found is None else str(found), _collapse(logged)) if text)


def _collapse(rows: Sequence[Mapping[str, Any]]) -> str:
    """That all images were one point to the encoder when its log ended; empty where it told them apart again."""
    known = reversed([row for row in rows if "spread" in row])
    lasting = list(takewhile(lambda row: row["spread"] < COLLAPSED, known))
    if not lasting:
        return ""
    return (
        f"the encoder collapsed: from step {lasting[-1]['step']:,} on it gave all images nearly one embedding, whose "
        f"spread was {lasting[0]['spread']:.2g} of the reference's at the end"
    )


def rise_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """What the end of a run says of a loss that rose over all of it; empty where it fell, or rose no more than its
    noise explains.

    The mean of the last tenth of the log's losses is above that of the first by `NOISE` standard errors. The spread of
    a single loss is taken from the differences of neighbours, which a slow rise hardly enters.
    """
    found = [row.get(START, row.get("adversarial_loss")) for row in rows]
    losses = [loss for loss in found if isinstance(loss, int | float)]
    tenth = max(1, len(losses) // 10)
    if len(losses) < 2:
        return ""
    first, last = fmean(losses[:tenth]), fmean(losses[-tenth:])
    variance = fmean((after - before) ** 2 for before, after in pairwise(losses)) / 2
    if last - first <= NOISE * sqrt(2 * variance / tenth):
        return ""
    return f"it rose: {first:.3g} on average in the first tenth of the log, {last:.3g} in the last"


class LossWatch:
    """Warns once when the loss leaves its range, and once when the encoder collapses.

    Args:
        rows: lines that the log has already, of a run that goes on.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        before = list(rows)
        self.first = next((row for row in before if START in row or "adversarial_loss" in row), None)
        self.over = divergence(before) is not None
        self.collapsed = bool(_collapse(before))

    def look(self, row: Mapping[str, Any]) -> None:
        """Take in a log line."""
        if self.first is None:
            self.first = row
        if not self.over and (found := divergence([self.first, row])) is not None:
            self.over = True
            log.warning(
                f"the run diverges: its loss was {found.start:.3g} at the start and is {found.loss:.3g} at step "
                f"{found.step:,}. Lower --lr or set --grad-clip; the card of the export will say so"
            )
        elif not (self.over or self.collapsed) and _collapse([row]):
            self.collapsed = True
            log.warning(
                f"the encoder collapses: at step {row['step']:,} it gives all images of a batch nearly one embedding "
                f"(spread {row['spread']:.2g} of the reference's). Lower --lr or ε, take more --warmup, or hold it by "
                "an --anchor; the card of the export will say so if it lasts"
            )
