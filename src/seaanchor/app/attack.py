"""An attack on one image, step by step: the library's own, watched while it runs.

Legend: C channels or classes, H W pixels.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seaanchor.app.answers import Answer, Classifier, answers, ranked
from seaanchor.app.settings import ATTACKS, LARGEST, MOST_STEPS, number
from seaanchor.attacks import APGD, PGD
from seaanchor.errors import SeaAnchorError


@dataclass(frozen=True)
class Step:
    """An image under attack.

    Attributes:
        number: gradient steps done.
        total: gradient steps at most.
        pixels_1CHW: the image now.
        answers: the likeliest classes of it.
        fooled: whether the answer is another one than before.
        last: whether the attack is over.
    """

    number: int
    total: int
    pixels_1CHW: Tensor
    answers: tuple[Answer, ...]
    fooled: bool
    last: bool = False


class _Stopped(Exception):
    """Nobody looks on any more."""


def radius(levels: float | None) -> float:
    """ε in pixel units from levels of 255.

    Raises:
        SeaAnchorError: no number, below 0 or above 16 levels.

    >>> radius(4) == 4 / 255
    True
    """
    return number(levels, "the radius ε in 255ths", 0, LARGEST, "for ε = 4/255 write 4") / 255


def attack_steps(
    seen: Classifier, pixels_1CHW: Tensor, label: int, epsilon: float, kind: str = "PGD", num_steps: int = 10
) -> Iterator[Step]:
    """The steps of an l-inf attack as they are done, and at the end its result.

    Args:
        seen: the model.
        pixels_1CHW: the clean image in [0, 1].
        label: the class that the answer is to leave.
        epsilon: radius in pixel units.
        kind: `PGD` or `APGD`, on the cross-entropy.
        num_steps: gradient steps at most; the attack ends as soon as the answer changes.

    Raises:
        SeaAnchorError: an unknown attack, or settings out of range.
    """
    if kind not in ATTACKS:
        raise SeaAnchorError(f"the attack {kind!r}", " or ".join(ATTACKS), "choose one of them")
    if not 1 <= num_steps <= MOST_STEPS:
        raise SeaAnchorError(f"{num_steps} steps", f"1 to {MOST_STEPS}", "choose another number")
    attack = PGD(epsilon, num_steps=num_steps) if kind == "PGD" else APGD(epsilon, num_steps=num_steps, targeted=False)
    found: queue.SimpleQueue[tuple[Tensor, Tensor] | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()

    def watched(pixels_BCHW: Tensor) -> Tensor:
        if stop.is_set():
            raise _Stopped
        logits_BC = seen(pixels_BCHW)
        found.put((pixels_BCHW.detach().clone(), logits_BC.detach()))
        return logits_BC

    def run() -> None:
        try:
            result_1CHW = attack(watched, pixels_1CHW, torch.tensor([label]))
            with torch.no_grad():
                found.put((result_1CHW, seen(result_1CHW)))
            found.put(None)
        except BaseException as error:  # raised where somebody waits for it
            found.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield from _steps(found, seen, label, num_steps)
    finally:
        stop.set()


def _steps(
    found: "queue.SimpleQueue[tuple[Tensor, Tensor] | BaseException | None]",
    seen: Classifier,
    label: int,
    num_steps: int,
) -> Iterator[Step]:
    """What the watched classifier was called with: first the clean image, then the start, then each step. The last call
    of all judges the result."""
    calls, before = 0, None
    while True:
        item = found.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            break
        if before is not None and calls > 1:
            yield before
        pixels_1CHW, logits_1C = item
        number = min(max(0, calls - 1), num_steps)
        fooled = int(logits_1C[0].argmax()) != label
        before = Step(number, num_steps, pixels_1CHW, ranked(logits_1C, seen.class_names), fooled)
        calls += 1
    if before is not None:
        done = max(0, min(calls - 3, num_steps))  # the result is no step of its own
        yield Step(done, num_steps, before.pixels_1CHW, answers(seen, before.pixels_1CHW), before.fooled, last=True)
