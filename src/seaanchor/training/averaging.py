"""Averages of the weights over training: the beta moving average, the exponential one and the mean of the last steps.

The average takes θ_0 (the pre-trained weights) to θ_T, one after every step.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BETA = 0.7  # both parameters of the Beta distribution (arXiv 2411.08923, appendix)


def beta_weight(index: int, total: int, beta: float = BETA) -> float:
    """Weight of θ_i: density of Beta(β, β) at (i + 0.5)/(T + 1), for i = 0 … T; largest at both ends for β < 1.

    >>> [round(beta_weight(i, 4), 3) for i in range(5)]
    [1.084, 0.841, 0.798, 0.841, 1.084]
    """
    x = (index + 0.5) / (total + 1)
    log_norm = 2 * math.lgamma(beta) - math.lgamma(2 * beta)
    return math.exp((beta - 1) * (math.log(x) + math.log1p(-x)) - log_norm)


class WeightAverage:
    """A running weighted mean of parameters, in fp32.

    Args:
        parameters: what is averaged; their present values are θ_0.
        total: T, the number of steps to come.
        kind: `beta`, `ema` with `decay`, or `tail` with `share`.
        decay: of the exponential average, in (0, 1).
        share: of the steps that `tail` averages (Polyak 1992), the last ones, in (0, 1]; before them the average is the
            weights themselves.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        total: int,
        kind: str = "beta",
        decay: float = 0.999,
        share: float = 0.25,
    ) -> None:
        self.parameters = list(parameters)
        self.total, self.kind, self.decay, self.share, self.index = total, kind, decay, share, 0
        self.mean = [p.detach().float().clone() for p in self.parameters]
        self.mass = beta_weight(0, total) if kind == "beta" else 1.0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are after a step."""
        self.index += 1
        if self.kind == "beta":
            weight = beta_weight(min(self.index, self.total), self.total)
            self.mass += weight
            share = weight / self.mass
        elif self.kind == "tail":
            first = self.total - max(1, math.ceil(self.share * self.total)) + 1
            share = 1 / max(1, self.index - first + 1)
        else:
            share = 1 - self.decay
        for mean, parameter in zip(self.mean, self.parameters, strict=True):
            mean.lerp_(parameter.detach().float(), share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange parameters and averages; a second call restores both."""
        for i, parameter in enumerate(self.parameters):
            raw = parameter.detach().float().clone()
            parameter.copy_(self.mean[i])
            self.mean[i] = raw

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The parameters hold the average inside."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Tensor | list[Tensor] | int | float]:
        """What resuming needs."""
        return {"mean": self.mean, "mass": self.mass, "index": self.index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        for mean, saved in zip(self.mean, state["mean"], strict=True):
            mean.copy_(saved)
        self.mass, self.index = state["mass"], state["index"]
