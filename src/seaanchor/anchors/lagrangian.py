"""LORE's anchor: a per-sample constraint with learned multipliers.

Legend: B batch.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from seaanchor.anchors.constraints import CONSTRAINTS, ConstraintOf, Margin, Space, constraint_needs
from seaanchor.anchors.duals import Dual, DualKind
from seaanchor.errors import SeaAnchorError
from seaanchor.types import AnchorTerms, BindContext, Constraint, Embeddings, Needs, Targets


@dataclass(frozen=True)
class Lagrangian:
    """λ_ω(x)·[distance(x) − ρ·m(x)], minimised over the policy and maximised over ω (LORE eq. 5 and 6).

    Args:
        dual: what the multiplier is a function of: `network`, `linear` or `scalar`, of which `bind` makes a module; or
            a ready `Dual`.
        rho: how far a clean image may move, as a share of its margin m(x).
        space: what is constrained, raw embeddings or class distributions.
        margin: whether m(x) follows the sample, `adaptive`, or is 1, `fixed`.
        violators_only: (experimental) the policy feels λ only where the constraint is broken; otherwise λ goes on
            pulling images that are well inside.
        augmented: (experimental) κ of a term κ·v²/(2ρ·m(x)) on the positive part v of the violation (augmented
            Lagrangian, Nocedal and Wright 2006, chapter 17): it acts at once, like a multiplier raised by κ times the
            relative violation, where λ takes hundreds of batches to rise.
        dual_hidden, initial_multiplier, max_multiplier: of the module that `bind` makes; see `Dual`.
        dual_lr: learning rate of the multiplier, which the training loop reads; 0 freezes it.
        exact_dual: the loop computes clean distances again for the dual step instead of taking those of the last primal
            step.

    Raises:
        SeaAnchorError: `augmented` with a rho of 0.
    """

    dual: Dual | DualKind = "network"
    rho: float = 0.1
    space: Space = "embedding"
    margin: Margin = "adaptive"
    violators_only: bool = False
    augmented: float = 0.0
    dual_hidden: int = 512
    initial_multiplier: float = 1.0
    max_multiplier: float | None = None
    dual_lr: float = 5e-4
    exact_dual: bool = False

    def __post_init__(self) -> None:
        if self.augmented > 0 and self.rho == 0:
            found = "anchor.augmented with anchor.rho 0, by which a violation is divided"
            raise SeaAnchorError(found, "a positive rho", "change one of the two")

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

    def bind(self, context: BindContext) -> "Lagrangian":
        """The same anchor with a multiplier of the reference's width, unless it has a ready one."""
        if isinstance(self.dual, Dual):
            return self
        start, most = self.initial_multiplier, self.max_multiplier
        return replace(self, dual=Dual(self.dual, context.dim, hidden=self.dual_hidden, initial=start, maximum=most))

    @property
    def multiplier(self) -> Dual:
        """The multiplier as a module, which is there after `bind`."""
        if not isinstance(self.dual, Dual):
            raise ValueError("the anchor has no multiplier before `bind`")
        return self.dual

    def __call__(self, embeddings: Embeddings, targets: Targets) -> AnchorTerms:
        """The weighted violation (B,). For the primal step the multiplier is a constant: without the detach the
        policy's loss would push λ down instead of the distance."""
        constraint = self.constraint_of(embeddings, targets, self.rho, self.adaptive)
        multiplier_B = self.multiplier(targets.reference_BD).detach()
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
        return -(self.multiplier(targets.reference_BD) * constraint.violation_B.detach()).mean()

    def dual_module(self) -> nn.Module | None:
        """The multiplier network."""
        return self.multiplier
