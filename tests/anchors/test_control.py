"""nuPI against sequences written out, against plain descent, and on a problem whose multiplier is known."""

import pytest
import torch
from torch import nn

from seaanchor.anchors.control import NuPI, pi_update
from seaanchor.anchors.duals import Dual
from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.anchors.table import MultiplierTable
from seaanchor.types import Embeddings, Targets

GRADIENTS = ((1.0, -0.5), (-2.0, 0.25), (0.5, 4.0), (0.0, -1.0), (3.0, 0.0))
COOPER = {
    (3.0, 0.4): [(0.72, -1.86), (1.388, -1.984), (1.0752, -3.0986), (1.06008, -2.38444), (0.214032, -2.318776)],
    (2.0, 0.0): [(0.7, -1.85), (1.5, -2.025), (0.95, -3.175), (1.05, -2.075), (0.15, -2.275)],
}
"""By κ and ν: where nuPI of cooper-optim 1.0.1 (`Ki` 1, `nuPIInitType.ZEROS`, lr 0.1) goes from (1, −2)."""


def test_updates_by_hand():
    """Errors 1, 3, −1 with κ = 2: ν = 0 has ξ = e; ν = 1/2 has ξ = 1/2, 7/4, 3/8."""
    for smoothing, wanted in ((0.0, [1 + 2, 3 + 4, -1 - 8]), (0.5, [1 + 1, 3 + 2.5, -1 - 2.75])):
        smoothed, found = torch.tensor(0.0), []
        for error in (1.0, 3.0, -1.0):
            update, smoothed = pi_update(torch.tensor(error), smoothed, 2.0, smoothing)
            found.append(update.item())
        assert found == wanted


def walked(optimizer_of, start=(1.0, -2.0), dtype=torch.float64):
    parameter, path = nn.Parameter(torch.tensor(start, dtype=dtype)), []
    optimizer = optimizer_of([parameter])
    for gradient in GRADIENTS:
        parameter.grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
        path.append(parameter.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize(("kappa", "nu"), COOPER)
def test_the_optimizer_goes_where_another_library_goes(kappa, nu):
    path = walked(lambda parameters: NuPI(parameters, 0.1, kappa, nu))
    assert torch.allclose(path, torch.tensor(COOPER[kappa, nu], dtype=torch.float64), atol=1e-7)


def test_without_the_proportional_term_it_is_gradient_descent_bit_for_bit():
    start = (0.3, -1 / 7)
    plain = walked(lambda parameters: torch.optim.SGD(parameters, 0.1), start, torch.float32)
    assert torch.equal(walked(lambda parameters: NuPI(parameters, 0.1, 0.0, 0.9), start, torch.float32), plain)
    assert not torch.equal(walked(lambda parameters: NuPI(parameters, 0.1, 1e-3), start, torch.float32), plain)


def test_the_optimizer_goes_on_from_its_state():
    whole, parameter = walked(lambda parameters: NuPI(parameters, 0.1, 3.0, 0.4)), None
    for step, gradient in enumerate(GRADIENTS):
        start = torch.tensor((1.0, -2.0), dtype=torch.float64) if parameter is None else parameter.detach().clone()
        state = None if parameter is None else optimizer.state_dict()  # noqa: F821 (of the step before)
        parameter = nn.Parameter(start)
        optimizer = NuPI([parameter], 0.1, 3.0, 0.4)
        if state is not None:
            optimizer.load_state_dict(state)
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        assert torch.equal(parameter.detach(), whole[step])


def solved(kind: str, rate: float, kappa: float, steps: int = 400) -> tuple[float, float, float]:
    """min x² subject to (x − 3/2)² ≤ 1/9·(3/2)², that is 1 ≤ x ≤ 2: x* = 1, and 2x + 2λ(x − 3/2) = 0 gives λ* = 2.

    Returns:
        How far λ rises above λ*, and λ and x in the end.
    """
    x = torch.tensor([[1.5]], requires_grad=True)
    index_B, targets = torch.tensor([0]), Targets(torch.tensor([[1.5]]), index_B=torch.tensor([0]))
    dual = MultiplierTable(1) if kind == "table" else Dual("scalar", 1)
    anchor, primal = Lagrangian(dual, rho=1 / 9), torch.optim.SGD([x], 0.02)
    control = None if kind == "table" else NuPI(dual.parameters(), rate, kappa)
    path = []
    for _ in range(steps):
        terms = anchor(Embeddings(x, x), targets)
        primal.zero_grad()
        (x.square().sum(-1) + terms.loss_B).sum().backward()
        primal.step()
        if control is None:
            dual.ascend(index_B, terms.constraint.violation_B.detach() / 2.25, rate, kappa)
        else:
            control.zero_grad()
            anchor.dual_loss(terms.constraint, targets).backward()
            control.step()
        path.append(anchor(Embeddings(x, x), targets).multiplier_B.item())
    return max(path) - 2, path[-1], x.item()


@pytest.mark.parametrize(("kind", "rate", "kappa"), [("scalar", 0.5, 5.0), ("table", 1.0, 5.0)])
def test_it_finds_the_known_multiplier_and_overshoots_less_than_plain_ascent(kind, rate, kappa):
    plain, damped = solved(kind, rate, 0.0), solved(kind, rate, kappa)
    for _, multiplier, x in (plain, damped):
        assert multiplier == pytest.approx(2, abs=1e-4) and x == pytest.approx(1, abs=1e-4)
    assert plain[0] > 0.2 and damped[0] < 0.03
