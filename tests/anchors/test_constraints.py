"""Constraints and penalty by hand, the units they are in, and what the embedding constraint guarantees."""

import math

import pytest
import torch
import torch.nn.functional as F

from seaanchor.anchors.constraints import distribution_constraint, embedding_constraint
from seaanchor.anchors.penalty import NoAnchor, Penalty
from seaanchor.types import Embeddings, Head, Targets

REFERENCE = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
CLEAN = torch.tensor([[3.0, 1.0], [1.0, 2.0]])  # squared distances 9 and 4; squared norms of the reference 25 and 1


def both(reference=REFERENCE, clean=CLEAN, head=None):
    return Embeddings(torch.zeros_like(clean), clean), Targets(reference, head=head)


def test_embedding_constraint_by_hand():
    constraint = embedding_constraint(*both(), 0.2, True)
    assert constraint.distance_B.tolist() == [9.0, 4.0]  # summed over D, not averaged
    assert torch.allclose(constraint.bound_B, torch.tensor([5.0, 0.2]))
    assert torch.allclose(constraint.violation_B, torch.tensor([4.0, 3.8]))


def test_fixed_margin_is_the_same_for_every_sample():
    constraint = embedding_constraint(*both(), 0.2, False)
    assert torch.allclose(constraint.bound_B, torch.tensor([0.2, 0.2]))


def test_embeddings_are_not_normalised():
    """Scaling everything by 3 scales distance and adaptive bound by 9; normalised embeddings would not change at
    all."""
    once, thrice = (
        embedding_constraint(*both(), 0.2, True),
        embedding_constraint(*both(3 * REFERENCE, 3 * CLEAN), 0.2, True),
    )
    assert torch.allclose(thrice.distance_B, 9 * once.distance_B) and torch.allclose(thrice.bound_B, 9 * once.bound_B)
    same_direction = embedding_constraint(*both(REFERENCE, 2 * REFERENCE), 0.2, True)
    assert torch.allclose(same_direction.distance_B, torch.tensor([25.0, 1.0]))


def test_distribution_constraint_by_hand():
    """Two classes along the axes, scale ln 3: the reference (1, 0) has probabilities 3:1, the policy (0, 1) has 1:3."""
    head = Head(torch.eye(2), math.log(3))
    embeddings, targets = both(torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 2.0]]), head)
    constraint = distribution_constraint(embeddings, targets, 0.5, True)
    assert constraint.distance_B.item() == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(1 / 3))
    assert constraint.bound_B.item() == pytest.approx(0.5 * -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert distribution_constraint(embeddings, targets, 0.5, False).bound_B.item() == 0.5


def test_distribution_constraint_weighs_by_the_reference():
    """Asymmetric case, which the wrong direction of the KL would fail: reference 3:1, policy 9:1."""
    head = Head(torch.eye(2), math.log(9))
    half = torch.tensor([[math.cos(math.pi / 4 - 0.25), math.cos(math.pi / 4 + 0.25)]])  # somewhere between the axes
    p = torch.softmax(math.log(9) * half, -1)[0]
    embeddings, targets = both(half, torch.tensor([[1.0, 0.0]]), head)
    q = torch.tensor([0.9, 0.1])
    constraint = distribution_constraint(embeddings, targets, 1.0, True)
    assert constraint.distance_B.item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-5)
    assert constraint.bound_B.item() == pytest.approx(
        -(p * p.log()).sum().item(), rel=1e-5
    )  # the reference's entropy, not the policy's


def test_confident_predictions_are_held_tighter():
    head = Head(torch.eye(3), 10.0)
    sure, unsure = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.9, 0.8]])
    bounds = [distribution_constraint(*both(r, r, head), 0.1, True).bound_B.item() for r in (sure, unsure)]
    assert 0 < bounds[0] < bounds[1] <= 0.1 * math.log(3)


@pytest.mark.parametrize("rho", [0.01, 0.1, 0.5])
def test_cosines_move_by_at_most_the_tight_bound(rho):
    """|cos(φ0, v) − cos(φ, v)| ≤ 2 sin(asin(√ρ)/2) wherever the embedding constraint holds, for any v."""
    rng = torch.Generator().manual_seed(0)
    reference, direction, v = (torch.randn(20_000, 3, generator=rng, dtype=torch.float64) for _ in range(3))
    radius = (
        torch.rand(20_000, 1, generator=rng, dtype=torch.float64) ** 0.1
        * math.sqrt(rho)
        * reference.norm(dim=-1, keepdim=True)
    )
    clean = reference + radius * F.normalize(direction, dim=-1)
    constraint = embedding_constraint(*both(reference, clean), rho, True)
    assert (constraint.violation_B <= 1e-9).all()
    moved = (F.cosine_similarity(reference, v) - F.cosine_similarity(clean, v)).abs()
    bound = 2 * math.sin(math.asin(math.sqrt(rho)) / 2)
    assert moved.max() <= bound + 1e-9
    assert moved.max() > 0.9 * bound  # and the samples come near it
    assert bound < 2 * math.sqrt(rho)  # it is tighter than the paper's


@pytest.mark.parametrize("rho", [0.01, 0.1, 0.5])
def test_the_tight_bound_is_attained(rho):
    """The policy's embedding is the tangent point, seen at angle asin(√ρ); v is perpendicular to the bisector."""
    angle = math.asin(math.sqrt(rho))
    reference = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    clean = math.cos(angle) * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert embedding_constraint(*both(reference, clean), rho, True).violation_B.item() == pytest.approx(0, abs=1e-12)
    v = torch.tensor([[-math.sin(angle / 2), math.cos(angle / 2)]], dtype=torch.float64)
    moved = (F.cosine_similarity(reference, v) - F.cosine_similarity(clean, v)).abs().item()
    assert moved == pytest.approx(2 * math.sin(angle / 2))


def test_penalty_by_hand_and_no_anchor():
    embeddings, targets = both()
    terms = Penalty(weight=0.5, rho=0.2)(embeddings, targets)
    assert terms.loss_B.tolist() == [4.5, 2.0]
    assert torch.allclose(terms.constraint.violation_B, torch.tensor([4.0, 3.8])) and terms.multiplier_B is None
    nothing = NoAnchor()(Embeddings(CLEAN), targets)
    assert nothing.loss_B.tolist() == [0.0, 0.0] and nothing.constraint is None
    for anchor in (Penalty(1.0, 0.1), NoAnchor()):
        assert anchor.dual_module() is None and anchor.dual_loss(terms.constraint, targets) is None


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="clean embeddings"):
        embedding_constraint(Embeddings(CLEAN), Targets(REFERENCE), 0.1)
    with pytest.raises(ValueError, match="head"):
        distribution_constraint(*both(), 0.1)
