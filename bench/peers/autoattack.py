"""AutoAttack's APGD by its authors' package `pyautoattack`, whose file of it is that of the original repository but for
the imports.

Nothing is written anew here: the package is called, and its random starts are drawn again so that ours may begin at the
same points.

Legend: B batch, C channels or classes, H W pixels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bench.frame import NotMeasured
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits

TARGETS = 9


def apgd_ce(
    logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, epsilon: float, num_steps: int, seed: int = 0
) -> Tensor:
    """Which of the correctly classified images (B,) the package's APGD-CE fools in an l-inf ball."""
    attack = _package().APGDAttack(
        logits, n_iter=num_steps, norm="Linf", eps=epsilon, seed=seed, loss="ce", device=pixels_BCHW.device
    )
    return _fooled(logits, attack.perturb(pixels_BCHW, label_B), label_B)


def apgd_targeted(
    logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, epsilon: float, num_steps: int, seed: int = 0
) -> Tensor:
    """The same of its targeted APGD-DLR."""
    attack = _package().APGDAttack_targeted(
        logits,
        n_iter=num_steps,
        norm="Linf",
        eps=epsilon,
        seed=seed,
        n_target_classes=TARGETS,
        device=pixels_BCHW.device,
    )
    return _fooled(logits, attack.perturb(pixels_BCHW, label_B), label_B)


def start(pixels_BCHW: Tensor, epsilon: float, seed: int = 0) -> Tensor:
    """Where the package's APGD-CE begins on a batch of correctly classified images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _spread(pixels_BCHW, epsilon)


def starts(pixels_BCHW: Tensor, epsilon: float, seed: int = 0) -> Callable[[int, Tensor], Tensor]:
    """(target, rows) → where its targeted attack begins on the rows that still stand: one sequence of drawings goes
    through all targets."""
    state: list[Tensor] = []

    def draw(target: int, row_B: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(state[-1]) if target else torch.manual_seed(seed)
            begun_BCHW = _spread(pixels_BCHW[row_B], epsilon)
            state.append(torch.get_rng_state())
        return begun_BCHW

    return draw


def _spread(pixels_BCHW: Tensor, epsilon: float) -> Tensor:
    noise_BCHW = 2 * torch.rand(pixels_BCHW.shape).to(pixels_BCHW.device) - 1
    return pixels_BCHW + Ball("linf", epsilon).spread(noise_BCHW)


@contextmanager
def in_double() -> Iterator[None]:
    """The package casts images to single precision; in here double ones stay."""
    cast = torch.Tensor.float
    torch.Tensor.float = lambda self, *a, **k: self if self.dtype == torch.float64 else cast(self, *a, **k)  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = cast  # type: ignore[method-assign]


@torch.no_grad()
def _fooled(logits: Logits, pixels_BCHW: Tensor, label_B: Tensor) -> Tensor:
    return logits(pixels_BCHW).argmax(-1) != label_B


def _package():
    try:
        from pyautoattack import autopgd_base
    except ImportError:
        raise NotMeasured("pyautoattack is not installed (extra `attacks`)") from None
    return autopgd_base
