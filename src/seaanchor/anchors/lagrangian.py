"""LORE's anchor: a per-sample constraint with learned multipliers.

Legend: B batch.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from seaanchor.anchors.constraints import CONSTRAINTS, ConstraintOf, Margin, Space, constraint_needs, in_margins
from seaanchor.anchors.control import DualControl
from seaanchor.anchors.duals import Dual, DualKind
from seaanchor.anchors.table import MultiplierTable
from seaanchor.errors import SeaAnchorError
from seaanchor.types import AnchorTerms, BindContext, Constraint, Embeddings, Needs, Targets


@dataclass(frozen=True)
class Lagrangian:
    """λ_ω(x)·[distance(x) − ρ·m(x)], minimised over the policy and maximised over ω (LORE eq. 5 and 6).

    Args:
        dual: what the multiplier is a function of: `network`, `linear` or `scalar`, or of the image itself, `table`; of
            these `bind` makes a module. Or a ready `Dual` or `MultiplierTable`.
        rho: how far a clean image may move, as a share of its margin m(x).
        space: what is constrained, raw embeddings or class distributions.
        margin: whether m(x) follows the sample, `adaptive`, or is 1, `fixed`.
        violators_only: (experimental) the policy feels λ only where the constraint is broken; otherwise λ goes on
            pulling images that are well inside.
        augmented: (experimental) κ of a term κ·v²/(2ρ·m(x)) on the positive part v of the violation (augmented
            Lagrangian, Nocedal and Wright 2006, chapter 17): it acts at once, where λ takes hundreds of batches to
            rise. Its gradient is that of a multiplier raised by κ·v/(ρ·m(x)), κ times the relative violation, so that
            κ is on the scale of λ: alone it balances a multiplier λ* at v = (λ*/κ)·ρ·m(x), and κ = 3 adds 9 to λ at
            four times the bound. Under gradient clipping the objective keeps about 1/(1 + λ + κ·v/(ρ·m(x))) of the
            step where it is a squared distance itself, of the order of m(x). A loss of order 1 (TeCoA, DPO) is starved
            unless κ and λ are of the order of 1/m(x), or `relative` is set.
        relative: the constraint in units of its margin, λ·[distance(x)/m(x) − ρ]. For the policy that is λ/m(x) in
            place of λ: a rescaling for each image, which a table can undo, but one number or a network of
            φ_0(x)/‖φ_0(x)‖ cannot where lengths differ. The dual's violations are then free of the tower's length, and
            so are its rates. The objective should be so too: `objective.relative`, or a loss of order 1.
        rho_start, rho_steps: ρ falls geometrically from `rho_start` to `rho` in the first `rho_steps` steps, for
            instance from the drift without an anchor; None leaves it at `rho`.
        dual_hidden, initial_multiplier, max_multiplier: of the module that `bind` makes; see `Dual`.
        dual_lr: learning rate of the multiplier, which the training loop reads; 0 freezes it. A table adds this times
            the relative violation to λ.
        dual_control, dual_proportional, dual_smoothing: how the loop takes the dual step: `integral`, Adam for weights
            and ascent for a table, or `pi`, with κ and ν of `NuPI`.
        exact_dual: the loop computes clean distances again for the dual step instead of taking those of the last primal
            step.

    Raises:
        SeaAnchorError: `augmented` with a rho of 0, `relative` on class distributions, one of `rho_start` and
            `rho_steps` alone or a start below the end, or settings of `pi` under `integral`.
    """

    dual: Dual | MultiplierTable | DualKind | Literal["table"] = "network"
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
    relative: bool = False
    rho_start: float | None = None
    rho_steps: int = 0
    dual_control: DualControl = "integral"
    dual_proportional: float = 0.0
    dual_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.augmented > 0 and self.rho == 0:
            found = "anchor.augmented with anchor.rho 0, by which a violation is divided"
            raise SeaAnchorError(found, "a positive rho", "change one of the two")
        if self.relative and self.space == "distribution":
            found = "anchor.relative with anchor.space distribution, whose KL has no unit of the tower"
            raise SeaAnchorError(found, "anchor.space embedding", "change one of the two")
        _check_annealing(self)
        if self.dual_control == "integral" and (self.dual_proportional, self.dual_smoothing) != (0, 0):
            found = f"anchor.dual_proportional {self.dual_proportional:g} and anchor.dual_smoothing "
            found += f"{self.dual_smoothing:g} with anchor.dual_control integral, which has no such terms"
            raise SeaAnchorError(found, "anchor.dual_control pi", "set it, or leave them out")

    @property
    def needs(self) -> Needs:
        """Clean embeddings, class texts where distributions are held, and each image's number for a table."""
        table = self.dual == "table" or isinstance(self.dual, MultiplierTable)
        return constraint_needs(self.space) | Needs(index=table)

    @property
    def constraint_of(self) -> ConstraintOf:
        """What is constrained, as a function."""
        return CONSTRAINTS[self.space]

    @property
    def adaptive(self) -> bool:
        """Whether the margin follows the sample."""
        return self.margin == "adaptive"

    def bind(self, context: BindContext) -> "Lagrangian":
        """The same anchor with a multiplier of the reference's width, or for each image, unless it has a ready one.

        Raises:
            SeaAnchorError: a table, and there are other images or nobody knows how many.
        """
        if isinstance(self.dual, MultiplierTable) and context.num_images not in (None, len(self.dual.multiplier_N)):
            found = f"a table of {len(self.dual.multiplier_N)} multipliers for {context.num_images} images"
            raise SeaAnchorError(found, "one multiplier for each image", "make it of their number, or write 'table'")
        if isinstance(self.dual, Dual | MultiplierTable):
            return self
        start, most = self.initial_multiplier, self.max_multiplier
        if self.dual != "table":
            dual = Dual(self.dual, context.dim, hidden=self.dual_hidden, initial=start, maximum=most)
            return replace(self, dual=dual)
        if context.num_images is None:
            found = "anchor.dual table on images that have no number of their own, or were not counted"
            raise SeaAnchorError(found, "a data set with a length and an index", "use anchor.dual network")
        return replace(self, dual=MultiplierTable(context.num_images, initial=start, maximum=most))

    def at(self, step: int) -> "Lagrangian":
        """The same anchor with its ρ of one step, counted from 0: a function of the step alone.

        >>> anchor = Lagrangian(rho=0.1, rho_start=0.4, rho_steps=10)
        >>> [round(anchor.at(step).rho, 3) for step in (0, 5, 10, 11)]
        [0.4, 0.2, 0.1, 0.1]
        """
        if self.rho_start is None or step >= self.rho_steps:
            return self
        now = self.rho_start * (self.rho / self.rho_start) ** (step / self.rho_steps)
        return replace(self, rho=now, rho_start=None, rho_steps=0)

    @property
    def multiplier(self) -> Dual | MultiplierTable:
        """The multiplier as a module, which is there after `bind`."""
        if not isinstance(self.dual, Dual | MultiplierTable):
            raise ValueError("the anchor has no multiplier before `bind`")
        return self.dual

    def __call__(self, embeddings: Embeddings, targets: Targets) -> AnchorTerms:
        """The weighted violation (B,). For the primal step the multiplier is a constant: without the detach the
        policy's loss would push λ down instead of the distance."""
        constraint = self.constraint_of(embeddings, targets, self.rho, self.adaptive)
        weighed = in_margins(constraint) if self.relative else constraint
        multiplier_B = self._multipliers(targets).detach()
        broken_B = weighed.violation_B.clamp(min=0)
        loss_B = multiplier_B * (broken_B if self.violators_only else weighed.violation_B)
        if self.augmented > 0:
            loss_B = loss_B + self.augmented * broken_B.square() / (
                2 * weighed.bound_B.clamp(min=torch.finfo(broken_B.dtype).tiny)
            )
        return AnchorTerms(loss_B, constraint, multiplier_B)

    def dual_loss(self, constraint: Constraint, targets: Targets) -> Tensor | None:
        """Scalar −mean λ_ω(x)·violation(x): descending it ascends the dual. The violation is a constant: ω must not
        move the policy. A table's violations are relative: its step for an image is `MultiplierTable.ascend`."""
        relative = self.relative or isinstance(self.multiplier, MultiplierTable)
        weighed = in_margins(constraint) if relative else constraint
        return -(self._multipliers(targets) * weighed.violation_B.detach()).mean()

    def dual_module(self) -> nn.Module | None:
        """The multiplier network, or the table."""
        return self.multiplier

    def _multipliers(self, targets: Targets) -> Tensor:
        multiplier = self.multiplier
        if isinstance(multiplier, Dual):
            return multiplier(targets.reference_BD)
        if targets.index_B is None:
            raise ValueError("a table of multipliers needs targets.index_B")
        return multiplier(targets.index_B)


def _check_annealing(anchor: Lagrangian) -> None:
    """ρ has a start and steps, and falls.

    Raises:
        SeaAnchorError: it does not.
    """
    start, steps = anchor.rho_start, anchor.rho_steps
    if (start is None) != (steps == 0):
        found = f"anchor.rho_start {start} with anchor.rho_steps {steps}"
        raise SeaAnchorError(found, "both or neither", "set the other one, or leave this one out")
    if start is not None and not start > anchor.rho > 0:
        found = f"anchor.rho_start {start:g}, which falls to anchor.rho {anchor.rho:g} geometrically"
        raise SeaAnchorError(found, "a start above rho, and a positive rho", "raise rho_start, or leave it out")
