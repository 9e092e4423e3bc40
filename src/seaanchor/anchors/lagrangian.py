"""LORE's anchor: a per-sample constraint with learned multipliers.

Legend: B batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from seaanchor.anchors.constraints import ConstraintOf, embedding_constraint
from seaanchor.anchors.duals import Dual
from seaanchor.types import AnchorTerms, Constraint, Embeddings, Needs, Targets


@dataclass(frozen=True)
class Lagrangian:
    """λ_ω(x)·[distance(x) − ρ·m(x)], minimised over the policy and maximised over ω (LORE eq. 5 and 6).

    Args:
        dual: the multiplier network.
        rho: how far a clean image may move, as a share of its margin m(x).
        constraint_of: what is constrained.
        adaptive: whether m(x) follows the sample.
        violators_only: the policy feels λ only where the constraint is broken; otherwise λ goes on pulling images that
            are well inside.
        augmented: κ of a term κ·v²/(2ρ·m(x)) on the positive part v of the violation (augmented Lagrangian, Nocedal and
            Wright 2006, chapter 17): it acts at once, like a multiplier raised by κ times the relative violation, where
            λ takes hundreds of batches to rise.
    """

    dual: Dual
    rho: float
    constraint_of: ConstraintOf = embedding_constraint
    adaptive: bool = True
    needs: Needs = Needs(clean=True)
    violators_only: bool = False
    augmented: float = 0.0

    def __call__(self, embeddings: Embeddings, targets: Targets) -> AnchorTerms:
        """The weighted violation (B,). For the primal step the multiplier is a constant: without the detach the
        policy's loss would push λ down instead of the distance."""
        constraint = self.constraint_of(embeddings, targets, self.rho, self.adaptive)
        multiplier_B = self.dual(targets.reference_BD).detach()
        broken_B = constraint.violation_B.clamp(min=0)
        loss_B = multiplier_B * (broken_B if self.violators_only else constraint.violation_B)
        if self.augmented > 0:
            loss_B = loss_B + self.augmented * broken_B.square() / (
                2 * constraint.bound_B.clamp(min=torch.finfo(broken_B.dtype).tiny)
            )
        return AnchorTerms(loss_B, constraint, multiplier_B)

    def dual_loss(self, constraint: Constraint, targets: Targets) -> Tensor | None:
        """Scalar −mean λ_ω(x)·violation(x): descending it ascends the dual. The violation is a constant: ω must not
        move the policy."""
        return -(self.dual(targets.reference_BD) * constraint.violation_B.detach()).mean()

    def dual_module(self) -> nn.Module | None:
        """The multiplier network."""
        return self.dual
