"""The contract of an objective.

Legend: B batch, D embedding dimension.
"""

import torch

from seaanchor.testing.rules import (
    SIZE,
    TEXTS,
    B,
    D,
    check_composition,
    check_own_gradient,
    declared,
    declared_needs,
    inputs,
    is_per_sample,
    rule,
    same,
    shown,
    tensors,
)
from seaanchor.types import BindContext, Objective, bind


def check_objective(objective: Objective, *, batch_statistics: bool = False) -> None:
    """Check an objective.

    Args:
        objective: the part.
        batch_statistics: a sample's loss may depend on the others through a statistic of the batch that is not
            differentiated, such as KTO's baseline. Twice the same batch must give the same losses all the same.

    Raises:
        AssertionError: names the rule that it breaks.
    """
    objective = bind(objective, BindContext(D, TEXTS, image_size=SIZE, num_images=B))
    needs = declared_needs(objective)
    embeddings, targets = inputs(needs)
    before = [t.clone() for t in tensors(embeddings, targets)]
    with declared("it works with what it declares in `needs` alone"):
        loss_B = objective(embeddings, targets)
        attack_B = objective.attack_loss(embeddings.perturbed_BD, targets)
    rule(is_per_sample(loss_B), f"the loss is float (B,) and finite: {shown(loss_B)}")
    rule(is_per_sample(attack_B), f"attack_loss is float (B,) and finite: {shown(attack_B)}")
    rule(all(map(torch.equal, before, tensors(embeddings, targets))), "the inputs are left as they are")
    rule(same(loss_B, objective(embeddings, targets)), "the same inputs give the same loss")
    for name, lost_B in (("loss", loss_B), ("attack_loss", attack_B)):
        rule(lost_B.requires_grad, f"the gradient of {name} reaches the perturbed embedding")
        check_own_gradient(lost_B, embeddings.perturbed_BD, name)
    attack = lambda e, t: objective.attack_loss(e.perturbed_BD, t)  # noqa: E731
    check_composition(attack, embeddings, targets, attack_B, "attack_loss", subset=True)
    check_composition(objective, embeddings, targets, loss_B, "the loss", subset=not batch_statistics)
