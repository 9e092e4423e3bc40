"""The multipliers: their start, their range, and that dual ascent finds the point the optimality conditions name."""

import math

import cooper
import pytest
import torch

from seaanchor.anchors.duals import Dual
from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Constraint, Embeddings, Targets

KINDS = ["network", "linear", "scalar"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("initial", [1e-3, 1.0, 7.5, 800.0])
def test_every_sample_starts_at_the_initial_multiplier(kind, initial):
    dual = Dual(kind, 6, hidden=4, initial=initial)
    multiplier_B = dual(100 * torch.randn(50, 6))
    assert torch.allclose(multiplier_B, torch.full((50,), initial), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_multipliers_are_never_negative_and_never_above_the_maximum(kind):
    torch.manual_seed(0)
    dual = Dual(kind, 6, hidden=4, maximum=3.0)
    for parameter in dual.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    multiplier_B = dual(torch.randn(500, 6))
    assert (multiplier_B >= 0).all() and (multiplier_B <= 3).all()
    if kind != "scalar":
        assert (
            multiplier_B.min() < 0.1 and multiplier_B.max() == 3
        )  # both ends are reached, so the two bounds are at work


def test_multiplier_network_by_hand():
    """Softplus(w · relu(W u + c) + b) with u the reference scaled to norm √D."""
    torch.manual_seed(0)
    dual, reference = Dual("network", 3, hidden=4), torch.tensor([[3.0, 0.0, 4.0]])
    torch.nn.init.normal_(dual.weight)
    unit = reference / 5 * math.sqrt(3)
    score = torch.relu(unit @ dual.hidden.weight.T + dual.hidden.bias) @ dual.weight + dual.bias
    assert torch.allclose(dual(reference), torch.log(1 + torch.exp(score)))


def test_a_multiplier_at_its_maximum_comes_down_again():
    dual = Dual("scalar", 2, initial=5.0, maximum=2.0)
    optimizer = torch.optim.SGD(dual.parameters(), lr=0.5)
    anchor, targets = Lagrangian(dual, 0.1), Targets(torch.ones(1, 2))

    def ascend(violation: float) -> float:
        optimizer.zero_grad()
        anchor.dual_loss(Constraint(torch.tensor([violation + 1]), torch.ones(1)), targets).backward()
        optimizer.step()
        return dual(targets.reference_BD).item()

    hidden = dual.bias.item()
    assert ascend(1.0) == 2.0 and dual.bias.item() == hidden  # a broken constraint does not wind it up further
    assert [ascend(-1.0) for _ in range(20)][-1] < 0.5


def test_a_bounded_multiplier_passes_every_gradient_that_lowers_it():
    """Above the maximum only what would raise it further is dropped, however small a gradient is."""
    dual, reference = Dual("scalar", 2, initial=5.0, maximum=2.0), torch.ones(3, 2)
    for slope in (0.01, 0.5, 3.0):
        (down,) = torch.autograd.grad(slope * dual(reference).mean(), dual.bias)
        (up,) = torch.autograd.grad(-slope * dual(reference).mean(), dual.bias)
        assert down.item() == pytest.approx(slope * torch.sigmoid(dual.bias).item()) and up.item() == 0


def test_lagrangian_by_hand():
    anchor = Lagrangian(Dual("scalar", 2, initial=3.0), rho=0.2)
    embeddings, targets = Embeddings(torch.zeros(1, 2), torch.tensor([[3.0, 1.0]])), Targets(torch.tensor([[3.0, 4.0]]))
    terms = anchor(embeddings, targets)
    assert terms.loss_B.item() == pytest.approx(3 * (9 - 0.2 * 25))
    assert anchor.dual_loss(terms.constraint, targets).item() == pytest.approx(-3 * (9 - 0.2 * 25))


def test_dual_loss_is_a_mean():
    """Twice the same samples give the same gradient: the dual's step does not depend on the batch size."""
    grads = []
    for repeats in (1, 4):
        anchor = Lagrangian(Dual("scalar", 2), rho=0.2)
        reference = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).repeat(repeats, 1)
        embeddings = Embeddings(reference, reference + 1)
        anchor.dual_loss(anchor(embeddings, Targets(reference)).constraint, Targets(reference)).backward()
        grads.append(anchor.dual.bias.grad.item())
    assert grads[0] == pytest.approx(grads[1])


def test_gradient_boundaries():
    """The primal loss does not reach the dual variables, the dual loss does not reach the policy."""
    anchor = Lagrangian(Dual("network", 2, hidden=4), rho=0.1)
    torch.nn.init.normal_(anchor.dual.weight)
    clean, targets = torch.randn(3, 2, requires_grad=True), Targets(torch.randn(3, 2))
    terms = anchor(Embeddings(clean, clean), targets)
    terms.loss_B.sum().backward()
    assert clean.grad.abs().sum() > 0 and all(p.grad is None for p in anchor.dual.parameters())
    assert not terms.multiplier_B.requires_grad
    clean.grad = None
    anchor.dual_loss(terms.constraint, targets).backward()
    assert clean.grad is None and all(p.grad.abs().sum() > 0 for p in anchor.dual.parameters())


# min ‖x_i − a_i‖² subject to ‖x_i − r_i‖² ≤ ρ‖r_i‖²; the conditions 2(x − a) + 2λ(x − r) = 0 and complementary
# slackness give, with
# d = ‖a − r‖ and s = √ρ‖r‖: if d > s, x = r + (a − r)·s/d and λ = d/s − 1; else x = a and λ = 0.
REFERENCE = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])
AIM = REFERENCE + torch.tensor([[3.0, 4.0], [0.0, 3.0], [0.0, 0.2]])
RHO = 0.25  # s = 1
SOLUTION = REFERENCE + torch.tensor([[0.6, 0.8], [0.0, 1.0], [0.0, 0.2]])
MULTIPLIER = torch.tensor([4.0, 2.0, 0.0])


def solve(kind: str, rows: slice, steps: int = 1500) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    targets, aim = Targets(REFERENCE[rows]), AIM[rows]
    anchor = Lagrangian(Dual(kind, 2, hidden=16), RHO)
    x = REFERENCE[rows].clone().requires_grad_()
    primal, dual = torch.optim.SGD([x], lr=0.03), torch.optim.SGD(anchor.dual.parameters(), lr=0.05)
    for _ in range(steps):
        terms = anchor(Embeddings(x, x), targets)
        primal.zero_grad()
        ((x - aim).square().sum(-1) + terms.loss_B).sum().backward()
        primal.step()
        dual.zero_grad()
        anchor.dual_loss(terms.constraint, targets).backward()
        dual.step()
    return x.detach(), anchor.dual(targets.reference_BD).detach()


@pytest.mark.parametrize("row", [0, *(pytest.param(row, marks=pytest.mark.exhaustive) for row in (1, 2))])
def test_dual_ascent_finds_the_optimum_of_one_problem(row):
    x, multiplier = solve("scalar", slice(row, row + 1))
    assert torch.allclose(x, SOLUTION[row : row + 1], atol=2e-3)
    assert torch.allclose(
        multiplier, MULTIPLIER[row : row + 1], atol=2e-2
    )  # Softplus comes near 0 without ever being it


def test_a_multiplier_network_solves_all_problems_at_once():
    x, multiplier = solve("network", slice(None))
    assert torch.allclose(x, SOLUTION, atol=5e-3) and torch.allclose(multiplier, MULTIPLIER, atol=5e-2)


def test_cooper_finds_the_same_point():
    class Problem(cooper.ConstrainedMinimizationProblem):
        def __init__(self):
            super().__init__()
            multiplier = cooper.multipliers.DenseMultiplier(num_constraints=3)
            self.near = cooper.Constraint(cooper.ConstraintType.INEQUALITY, cooper.formulations.Lagrangian, multiplier)

        def compute_cmp_state(self, x):
            violation = (x - REFERENCE).square().sum(-1) - RHO * REFERENCE.square().sum(-1)
            state = cooper.ConstraintState(violation=violation)
            return cooper.CMPState(loss=(x - AIM).square().sum(), observed_constraints={self.near: state})

    problem, x = Problem(), torch.nn.Parameter(REFERENCE.clone())
    primal = torch.optim.SGD([x], lr=0.1)
    dual = torch.optim.SGD(problem.dual_parameters(), lr=0.3, maximize=True)
    optimizer = cooper.optim.SimultaneousOptimizer(problem, primal, dual)
    for _ in range(400):
        optimizer.roll(compute_cmp_state_kwargs={"x": x})
    ours, multiplier = solve("network", slice(None))
    assert torch.allclose(ours, x.detach(), atol=5e-3)
    assert torch.allclose(multiplier, problem.near.multiplier().detach(), atol=5e-2)


def held(clean_BD: torch.Tensor, reference_BD: torch.Tensor, **settings) -> torch.Tensor:
    """The anchor's loss (B,) of clean embeddings, λ = 2 and ρ = 0.1."""
    anchor = Lagrangian(Dual("scalar", reference_BD.shape[-1], initial=2.0), 0.1, **settings)
    return anchor(Embeddings(clean_BD, clean_BD), Targets(reference_BD)).loss_B


def test_only_violators_are_pulled_where_asked_for():
    """‖φ_0‖² = 4, so the bound is 0.4; distances are 0.09 and 1."""
    reference_BD = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    clean_BD = torch.tensor([[2.3, 0.0], [2.0, 1.0]], requires_grad=True)
    assert torch.allclose(held(clean_BD, reference_BD), torch.tensor([2 * (0.09 - 0.4), 2 * 0.6]), atol=1e-5)
    loss_B = held(clean_BD, reference_BD, violators_only=True)
    assert torch.allclose(loss_B, torch.tensor([0.0, 2 * 0.6]), atol=1e-5)
    (grad_BD,) = torch.autograd.grad(loss_B.sum(), clean_BD)
    assert torch.allclose(grad_BD, torch.tensor([[0.0, 0.0], [0.0, 4.0]]), atol=1e-5), (
        "λ times the distance's gradient 2(φ − φ_0)"
    )


def test_the_augmented_term_acts_like_a_raised_multiplier():
    """Its gradient is κ·v/(ρm) times the distance's: here 3 · 0.6/0.4 = 4.5 more of λ, and nothing where the constraint
    holds."""
    reference_BD = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    clean_BD = torch.tensor([[2.3, 0.0], [2.0, 1.0]], requires_grad=True)
    plain_B, more_B = held(clean_BD, reference_BD), held(clean_BD, reference_BD, augmented=3.0)
    assert torch.allclose(more_B - plain_B, torch.tensor([0.0, 3 * 0.36 / 0.8]), atol=1e-5)
    (grad_BD,) = torch.autograd.grad((more_B - plain_B).sum(), clean_BD)
    assert torch.allclose(grad_BD, torch.tensor([[0.0, 0.0], [0.0, 4.5 * 2]]), atol=1e-4)


def test_a_moving_reference_takes_the_frozen_ones_place():
    reference_BD, moving_BD = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    constraint = Lagrangian(Dual("scalar", 2), 0.1)(
        Embeddings(moving_BD, moving_BD), Targets(reference_BD, anchor_BD=moving_BD)
    ).constraint
    assert constraint.distance_B.item() == 0 and math.isclose(constraint.bound_B.item(), 0.9, rel_tol=1e-6)


def test_a_relative_constraint_is_a_multiplier_divided_by_the_margin():
    """By hand: distance 9 and m(x) = 25 under λ = 2, ρ = 0.1; its gradient is that of λ/25. Three times the tower, and
    nothing changes; raw, everything is nine times as much."""
    reference_BD, clean_BD = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 1.0]], requires_grad=True)
    for scale in (1.0, 3.0):
        loss_B = held(scale * clean_BD, scale * reference_BD, relative=True)
        assert loss_B.item() == pytest.approx(2 * (9 / 25 - 0.1))
        assert held(scale * clean_BD, scale * reference_BD).item() == pytest.approx(scale**2 * 2 * (9 - 2.5))
    (grad_BD,) = torch.autograd.grad(held(clean_BD, reference_BD, relative=True).sum(), clean_BD)
    assert torch.allclose(grad_BD, 2 / 25 * 2 * torch.tensor([[0.0, -3.0]]))
    (grad_BD,) = torch.autograd.grad(held(clean_BD, reference_BD, relative=True, augmented=3.0).sum(), clean_BD)
    assert torch.allclose(grad_BD, (2 + 3 * (0.36 - 0.1) / 0.1) / 25 * 2 * torch.tensor([[0.0, -3.0]]))


def test_a_relative_dual_sees_violations_without_the_towers_length():
    reference_BD, clean_BD = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 1.0]])
    anchor = Lagrangian(Dual("scalar", 2, initial=2.0), 0.1, relative=True)
    terms = anchor(Embeddings(clean_BD, clean_BD), Targets(reference_BD))
    assert terms.constraint.distance_B.item() == 9  # what is logged stays raw
    assert anchor.dual_loss(terms.constraint, Targets(reference_BD)).item() == pytest.approx(-2 * (9 / 25 - 0.1))


def test_rho_falls_geometrically_and_ends_exactly():
    anchor = Lagrangian(rho=0.05, rho_start=0.2, rho_steps=10)
    assert anchor.at(0).rho == 0.2 and {anchor.at(step).rho for step in (10, 11, 99)} == {0.05}
    assert anchor.at(5).rho == pytest.approx(0.1, rel=1e-12)
    ratios = [anchor.at(step + 1).rho / anchor.at(step).rho for step in range(10)]
    assert ratios == pytest.approx([0.25**0.1] * 10)
    assert Lagrangian(rho=0.05).at(0).rho == 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho_start": 0.2}, r"rho_start 0\.2 with anchor\.rho_steps 0[\s\S]*both or neither"),
        ({"rho_steps": 5}, r"rho_start None with anchor\.rho_steps 5"),
        ({"rho_start": 0.05, "rho_steps": 5}, r"rho_start 0\.05, which falls to anchor\.rho 0\.1"),
        ({"rho": 0.0, "rho_start": 0.05, "rho_steps": 5}, "a positive rho"),
        ({"relative": True, "space": "distribution"}, r"anchor\.relative with anchor\.space distribution"),
        ({"dual_proportional": 2.0}, r"dual_proportional 2[\s\S]*dual_control pi"),
        ({"dual_smoothing": 0.5}, r"dual_smoothing 0\.5[\s\S]*dual_control pi"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(SeaAnchorError, match=message):
        Lagrangian(**settings)
