"""Per-sample constraints on how far a clean image may move from the reference.

Legend: B batch, C classes, D embedding dimension.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from seaanchor.functional.distances import entropy, kl_divergence, squared_distance, squared_length
from seaanchor.types import Constraint, Embeddings, Needs, Targets

ConstraintOf = Callable[[Embeddings, Targets, float, bool], Constraint]
Space = Literal["embedding", "distribution"]
Margin = Literal["adaptive", "fixed"]


def embedding_constraint(embeddings: Embeddings, targets: Targets, rho: float, adaptive: bool = True) -> Constraint:
    """‖φ_θ(x) − φ_0(x)‖² ≤ ρ·m(x), with m(x) = ‖φ_0(x)‖² if adaptive, else 1 (LORE eq. 4 and its ablation of the
    margin); of patch tokens both sides are means over an image's tokens (its appendix J.8)."""
    distance_B = squared_distance(_clean(embeddings), targets.held_BD)
    margin_B = squared_length(targets.held_BD) if adaptive else distance_B.new_ones(distance_B.shape)
    return Constraint(distance_B, rho * margin_B, margin_B)


def distribution_constraint(embeddings: Embeddings, targets: Targets, rho: float, adaptive: bool = True) -> Constraint:
    """KL(π_ref(·|x) ‖ π_θ(·|x)) ≤ ρ·m(x), with m(x) = H(π_ref(·|x)) if adaptive, else 1: confident predictions are held
    tighter."""
    if targets.head is None:
        raise ValueError("the constraint on class distributions needs targets.head")
    reference_BC = targets.head(targets.held_BD)
    policy_head = embeddings.head or targets.head  # an adapter may move the texts too
    distance_B = kl_divergence(reference_BC, policy_head(_clean(embeddings)))
    margin_B = entropy(reference_BC) if adaptive else distance_B.new_ones(distance_B.shape)
    return Constraint(distance_B, rho * margin_B)


CONSTRAINTS: dict[Space, ConstraintOf] = {
    "embedding": embedding_constraint,
    "distribution": distribution_constraint,
}
"""What is constrained, by its name in settings."""


def in_margins(constraint: Constraint) -> Constraint:
    """The same inequality divided by the margin: distance / m(x) ≤ ρ, the same numbers for towers of any length; as it
    is where there is no margin."""
    if constraint.margin_B is None:
        return constraint
    unit_B = constraint.margin_B.clamp(min=torch.finfo(constraint.margin_B.dtype).tiny)
    return Constraint(constraint.distance_B / unit_B, constraint.bound_B / unit_B, torch.ones_like(unit_B))


def constraint_needs(space: Space) -> Needs:
    """What the constraint of a space asks of a step."""
    return Needs(clean=True, head=space == "distribution", reference_embeddings=space == "embedding")


def _clean(embeddings: Embeddings) -> Tensor:
    if embeddings.clean_BD is None:
        raise ValueError("an anchor needs the clean embeddings")
    return embeddings.clean_BD
