"""The anchors without dual variables: nothing, and a fixed weight on the distance to the reference.

Legend: B batch.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from seaanchor.anchors.constraints import CONSTRAINTS, ConstraintOf, Margin, Space, constraint_needs
from seaanchor.types import AnchorTerms, Constraint, Embeddings, Needs, Targets


@dataclass(frozen=True)
class NoAnchor:
    """Nothing holds the policy (FARE, TeCoA)."""

    needs: ClassVar[Needs] = Needs()

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
    """weight · distance(x): the naive baseline of the LORE paper.

    Args:
        weight: of the distance.
        rho: only what violations are reported against, as a share of the margin m(x).
        space: what is held, raw embeddings or class distributions.
        margin: whether m(x) follows the sample, `adaptive`, or is 1, `fixed`.
    """

    weight: float = 1.0
    rho: float = 0.1
    space: Space = "embedding"
    margin: Margin = "adaptive"

    @property
    def needs(self) -> Needs:
        """Clean embeddings, and class texts where distributions are held."""
        return constraint_needs(self.space)

    @property
    def constraint_of(self) -> ConstraintOf:
        """What is constrained, as a function."""
        return CONSTRAINTS[self.space]

    @property
    def adaptive(self) -> bool:
        """Whether the margin follows the sample."""
        return self.margin == "adaptive"

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


def kl(weight: float = 1.0, rho: float = 0.1, margin: Margin = "adaptive") -> Penalty:
    """weight · KL(π_ref(·|x) ‖ π_θ(·|x)): the penalty on class distributions, under the name it has there."""
    return Penalty(weight, rho, "distribution", margin)
