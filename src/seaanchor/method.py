"""A method: objective + anchor + perturbation + adapter, assembled into the steps of training.

Legend: B batch, C classes, D embedding dimension.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from seaanchor.adapters.full import Full
from seaanchor.anchors.penalty import NoAnchor
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import frozen
from seaanchor.objectives.preference import policy_head
from seaanchor.types import (
    Adapter,
    Anchor,
    AttackLoss,
    Batch,
    BindContext,
    Constraint,
    Embeddings,
    LossTerms,
    Needs,
    Objective,
    Perturbation,
    Targets,
    bind,
    needs_of,
)

Encode = Callable[[Tensor], Tensor]

CALLED = {
    "objective": ("__call__",),  # `attack_loss` by those perturbations alone that attack
    "anchor": ("__call__", "dual_loss", "dual_module"),
    "perturbation": ("__call__",),
    "adapter": ("trainable", "head", "penalty"),
}
"""Part → methods that a training calls in every composition."""


@dataclass(frozen=True)
class Method:
    """Four parts; `seaanchor.methods` gives the usual combinations their names.

    Attributes:
        objective: what should become better.
        anchor: how the policy is kept near the reference; by default not at all.
        perturbation: on which hard inputs.
        adapter: which parameters move; by default the whole image tower.
        defaults: settings of the run that it was published with, such as `lr` and `epochs`.
    """

    objective: Objective
    anchor: Anchor = field(default_factory=NoAnchor)
    perturbation: Perturbation = field(kw_only=True)
    adapter: Adapter = field(default_factory=Full)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Parts have the methods that a training calls. Attacks on classifiers have the names of perturbations of
        training, and are not those.

        Raises:
            SeaAnchorError: a part is none.
        """
        if type(self.perturbation).__module__.startswith("seaanchor.attacks"):
            name = type(self.perturbation).__name__
            raise SeaAnchorError(
                f"the perturbation is seaanchor.attacks.{name}, an attack on classifiers",
                "a perturbation of training",
                f'write seaanchor.perturbations.{name}(seaanchor.attacks.Ball("linf", 2 / 255))',
            )
        for part, made in self.parts.items():
            if lacking := [name for name in CALLED[part] if not callable(getattr(made, name, None))]:
                raise SeaAnchorError(
                    f"{type(made).__name__} has no {' and no '.join(lacking)}",
                    f"the methods of seaanchor.types.{part.capitalize()}",
                    f"write {'them' if len(lacking) > 1 else 'it'}; seaanchor.testing.check_{part} names the rules",
                )

    @property
    def parts(self) -> dict[str, Any]:
        """The four parts by the names of their sections in a configuration."""
        return {name: getattr(self, name) for name in ("objective", "anchor", "perturbation", "adapter")}

    @property
    def needs(self) -> Needs:
        """What a step and the data must give to this method."""
        objective, anchor, perturbation, adapter = (needs_of(part) for part in self.parts.values())
        return objective | anchor | perturbation | adapter

    def bind(self, context: BindContext) -> "Method":
        """The method for one model and data set: a multiplier network has its size, a typographic perturbation its
        words.

        Raises:
            SeaAnchorError: a part cannot do with this model or these texts.
        """
        return replace(self, **{name: bind(part, context) for name, part in self.parts.items()})

    def at(self, step: int) -> "Method":
        """The method in one step, counted from 0: an anchor may have `at(step)`, which returns what it is then."""
        return replace(self, anchor=self.anchor.at(step)) if hasattr(self.anchor, "at") else self

    def perturb(self, policy: nn.Module, batch: Batch, targets: Targets, rng: torch.Generator) -> Batch:
        """Step 1: the hard inputs. The policy is attacked in eval mode on a frozen view, so neither batch statistics
        nor weights see the attack's passes."""
        was_training = policy.training
        policy.eval()

        def loss_of(attacked: Batch) -> AttackLoss:
            # The reference's margin does not depend on the pixels that an attack moves, so its clean embedding will do.
            fixed = replace(targets, preference=attacked.preference, reference_perturbed_BD=targets.reference_BD)

            def loss(pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
                embedding_BD = policy(pixels_BCHW)
                found_BD = embedding_BD.float()
                return per_sample(self.objective, "attack_loss", found_BD, found_BD, fixed), embedding_BD

            return loss

        try:
            with frozen(policy):
                return self.perturbation(batch, loss_of, rng)
        finally:
            policy.train(was_training)

    def complete(self, targets: Targets, perturbed: Batch, reference: Encode | None) -> Targets:
        """The targets with what only the perturbed batch can tell: its preferences and, where asked for, how the
        reference sees it."""
        if not self.needs.reference_perturbed:
            return replace(targets, preference=perturbed.preference)
        if reference is None:
            raise ValueError(f"{type(self.objective).__name__} needs the reference encoder")
        return replace(
            targets, preference=perturbed.preference, reference_perturbed_BD=reference(perturbed.pixels_BCHW)
        )

    def primal_terms(
        self, encode: Encode, clean: Batch, perturbed: Batch, targets: Targets, policy: nn.Module | None = None
    ) -> LossTerms:
        """Step 2: the loss the policy minimises, from one forward over perturbed and clean images together.

        `policy` is the module behind `encode`; an adapter that moves texts or has a penalty of its own reads it.
        """
        embeddings = self._embed(encode, clean, perturbed)
        if policy is not None:
            embeddings = replace(embeddings, head=self.adapter.head(policy, targets.head))
        targets = self._with_old_policy(embeddings, targets)
        objective_B = per_sample(self.objective, "__call__", embeddings.perturbed_BD, embeddings, targets)
        anchor = self.anchor(embeddings, targets)
        adapter = None if policy is None else self.adapter.penalty(policy)
        return LossTerms(objective_B, anchor, adapter, targets.old_logits_BC)

    def dual_loss(self, constraint: Constraint | None, targets: Targets) -> Tensor | None:
        """Step 3: what the dual variables minimise, of the distances the last primal step saw; None if there are
        none."""
        return None if constraint is None else self.anchor.dual_loss(constraint, targets)

    def _with_old_policy(self, embeddings: Embeddings, targets: Targets) -> Targets:
        """The targets with the logits of the policy before the step, where asked for: in the first update the policy
        is that one still, and its own forward tells them in the same arithmetic, so that all ratios are exactly 1."""
        if not self.needs.old_policy or targets.old_logits_BC is not None:
            return targets
        logits_BC = policy_head(embeddings, targets)(embeddings.perturbed_BD)
        return replace(targets, old_logits_BC=logits_BC.detach())  # what later ratios are taken of, never moved itself

    def _embed(self, encode: Encode, clean: Batch, perturbed: Batch) -> Embeddings:
        if not self.needs.clean:
            return Embeddings(encode(perturbed.pixels_BCHW).float())
        both = encode(torch.cat([perturbed.pixels_BCHW, clean.pixels_BCHW])).float()
        perturbed_BD, clean_BD = both.chunk(2)
        return Embeddings(perturbed_BD, clean_BD)


def per_sample(objective: Objective, name: str, like_BD: Tensor, *arguments: Any) -> Tensor:
    """What an objective's method gives, one number for each image (B,).

    Raises:
        SeaAnchorError: it gives something else, or an objective of the user's own reads what its `needs` leave out.
    """
    if not callable(getattr(objective, name, None)):
        raise SeaAnchorError(
            f"{type(objective).__name__} has no {name}",
            "an objective with attack_loss(embedding_BD, targets) and __call__(embeddings, targets)",
            f"write its {name}",
        )
    try:
        loss_B = getattr(objective, name)(*arguments)
    except (AttributeError, TypeError) as error:
        if type(objective).__module__.startswith("seaanchor."):
            raise
        raise SeaAnchorError(
            f"{type(objective).__name__}.{name} ended with {type(error).__name__}: {error}",
            "an objective that reads what its `needs` declare: head, labels, pairs, clean, ...",
            "declare what it reads; seaanchor.testing.check_objective names the rule",
        ) from error
    if not isinstance(loss_B, Tensor) or loss_B.shape != like_BD.shape[:1]:
        shape = tuple(loss_B.shape) if isinstance(loss_B, Tensor) else type(loss_B).__name__
        raise SeaAnchorError(
            f"{type(objective).__name__}.{name} gives {shape} for {len(like_BD)} images",
            f"one number for each image: ({len(like_BD)},)",
            "leave the mean to the training step",
        )
    return loss_B
