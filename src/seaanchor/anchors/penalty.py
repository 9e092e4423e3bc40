"""The anchors without dual variables: nothing, and a fixed weight on the distance to the reference.

Legend: B batch.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from seaanchor.anchors.constraints import ConstraintOf, embedding_constraint
from seaanchor.types import AnchorTerms, Constraint, Embeddings, Needs, Targets


@dataclass(frozen=True)
class NoAnchor:
    """Nothing holds the policy (FARE, TeCoA)."""

    needs: Needs = Needs()

    def __call__(self, embeddings: Embeddings, targets: Targets) -> AnchorTerms:
        """Zero for every sample."""
        return AnchorTerms(embeddings.perturbed_BD.new_zeros(len(embeddings.perturbed_BD)))

    def dual_loss(self, constraint: Constraint, targets: Targets) -> Tensor | None:
        """None: there are no dual variables."""
        return None

    def dual_module(self) -> nn.Module | None:
        """None: there are no dual variables."""
        return None


@dataclass(frozen=True)
class Penalty:
    """weight · distance(x): the naive baseline of the LORE paper. `rho` is only what violations are reported
    against."""

    weight: float
    rho: float
    constraint_of: ConstraintOf = embedding_constraint
    adaptive: bool = True
    needs: Needs = Needs(clean=True)

    def __call__(self, embeddings: Embeddings, targets: Targets) -> AnchorTerms:
        """The weighted distance (B,)."""
        constraint = self.constraint_of(embeddings, targets, self.rho, self.adaptive)
        return AnchorTerms(self.weight * constraint.distance_B, constraint)

    def dual_loss(self, constraint: Constraint, targets: Targets) -> Tensor | None:
        """None: there are no dual variables."""
        return None

    def dual_module(self) -> nn.Module | None:
        """None: there are no dual variables."""
        return None
