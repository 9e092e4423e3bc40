"""Proportional-integral control of multipliers (nuPI).

Plain ascent sums violations: integral control, which lags behind a violation and overshoots once it is over. A term in
proportion to the violation's change acts at once and damps (Sohrabi et al., *On PI controllers for updating Lagrange
multipliers in constrained optimization*, ICML 2024, arXiv 2406.04558).
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

DualControl = Literal["integral", "pi"]


def pi_update(error: Tensor, smoothed: Tensor, proportional: float, smoothing: float) -> tuple[Tensor, Tensor]:
    """e_t + κ·(ξ_t − ξ_{t−1}) and ξ_t = ν·ξ_{t−1} + (1 − ν)·e_t, of any shape.

    With ξ = 0 before the first error the terms add up to Σe + κ·ξ_t, whenever a number was first looked at.

    Args:
        error: e_t, a violation or a gradient.
        smoothed: ξ_{t−1}.
        proportional: κ, the proportional gain as a multiple of the integral one: a change of the error counts as much
            as the error itself over κ steps.
        smoothing: ν in [0, 1).

    >>> errors, smoothed, sums = [-1.0, 3.0, 1.0], torch.tensor(0.0), []
    >>> for e in errors:
    ...     update, smoothed = pi_update(torch.tensor(e), smoothed, proportional=2.0, smoothing=0.0)
    ...     sums.append(update.item())
    >>> sums, sum(sums) == sum(errors) + 2 * errors[-1]
    ([-3.0, 11.0, -3.0], True)
    """
    now = smoothing * smoothed + (1 - smoothing) * error
    return error + proportional * (now - smoothed), now


class NuPI(torch.optim.Optimizer):
    """nuPI on the gradients of parameters: θ ← θ − lr·(g_t + κ·(ξ_t − ξ_{t−1})). Without κ it is gradient descent.

    Args:
        params: what is updated.
        lr: the integral gain.
        proportional: κ, in multiples of it.
        smoothing: ν in [0, 1).
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, proportional: float = 0.0, smoothing: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "proportional": proportional, "smoothing": smoothing})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override] # it returns no loss
        """One update of all parameters with a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update, state = parameter.grad, self.state[parameter]
                if group["proportional"] > 0:
                    before = state.get("smoothed")
                    before = torch.zeros_like(parameter) if before is None else before
                    update, state["smoothed"] = pi_update(update, before, group["proportional"], group["smoothing"])
                parameter.add_(update, alpha=-group["lr"])
