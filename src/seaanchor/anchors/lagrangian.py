"""LORE's anchor: a per-sample constraint with learned multipliers.

Legend: B batch.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from seaanchor.anchors.constraints import ConstraintOf, embedding_constraint
from seaanchor.anchors.duals import Dual
from seaanchor.parts import AnchorTerms, Constraint, Embeddings, Needs, Targets


@dataclass(frozen=True)
class Lagrangian:
    """λ_ω(x)·[distance(x) − ρ·m(x)], minimised over the policy and maximised over ω (LORE eq. 5 and 6).

    Args:
        dual: the multiplier network.
        rho: how far a clean image may move, as a share of its margin m(x).
        constraint_of: what is constrained.
        adaptive: whether m(x) follows the sample.
    """

    dual: Dual
    rho: float
    constraint_of: ConstraintOf = embedding_constraint
    adaptive: bool = True
    needs: Needs = Needs(clean=True)

    def __call__(self, embeddings: Embeddings, targets: Targets) -> AnchorTerms:
        """The weighted violation (B,). For the primal step the multiplier is a constant: without the detach the policy's loss would
        push λ down instead of the distance."""
        constraint = self.constraint_of(embeddings, targets, self.rho, self.adaptive)
        multiplier_B = self.dual(targets.reference_BD).detach()
        return AnchorTerms(multiplier_B * constraint.violation_B, constraint, multiplier_B)

    def dual_loss(self, constraint: Constraint, targets: Targets) -> Tensor | None:
        """Scalar −mean λ_ω(x)·violation(x): descending it ascends the dual. The violation is a constant: ω must not move the policy."""
        return -(self.dual(targets.reference_BD) * constraint.violation_B.detach()).mean()

    def dual_module(self) -> nn.Module | None:
        """The multiplier network."""
        return self.dual
