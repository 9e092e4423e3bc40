"""The contract of an anchor and of its dual variables.

Legend: B batch.
"""

import torch

from seaanchor.testing.rules import (
    SIZE,
    TEXTS,
    B,
    D,
    change_rows,
    check_composition,
    check_own_gradient,
    close,
    declared,
    declared_needs,
    double,
    inputs,
    is_per_sample,
    rule,
    shown,
)
from seaanchor.types import Anchor, AnchorTerms, BindContext, Embeddings, Targets, bind


def check_anchor(anchor: Anchor) -> None:
    """Check an anchor, and its dual variables if it has some.

    Raises:
        AssertionError: names the rule that it breaks.
    """
    anchor = bind(anchor, BindContext(D, TEXTS, image_size=SIZE, num_images=B))
    needs = declared_needs(anchor)
    embeddings, targets = inputs(needs)
    with declared("it works with what it declares in `needs` alone"):
        terms = anchor(embeddings, targets)
    rule(isinstance(terms, AnchorTerms), f"it returns AnchorTerms: {type(terms).__name__}")
    rule(is_per_sample(terms.loss_B), f"the loss is float (B,) and finite: {shown(terms.loss_B)}")
    check_composition(lambda e, t: anchor(e, t).loss_B, embeddings, targets, terms.loss_B, "the loss", subset=True)
    if needs.clean:
        rule(terms.loss_B.requires_grad, "the gradient reaches the clean embedding, which it asked for")
        check_own_gradient(terms.loss_B, embeddings.clean_BD, "the loss")  # type: ignore[arg-type] # asked for
    if terms.constraint is not None:
        for name in ("distance_B", "bound_B"):
            value_B = getattr(terms.constraint, name)
            rule(is_per_sample(value_B) and bool((value_B >= 0).all()), f"constraint.{name} is (B,) and not negative")
    _check_dual(anchor, terms, embeddings, targets)


def _check_dual(anchor: Anchor, terms: AnchorTerms, embeddings: Embeddings, targets: Targets) -> None:
    dual = anchor.dual_module()
    if dual is None:
        lost = anchor.dual_loss(terms.constraint, targets) if terms.constraint is not None else None
        rule(lost is None, "without a dual module there is no dual loss")
        return
    weights = list(dual.parameters())
    if terms.loss_B.requires_grad:
        found = torch.autograd.grad(terms.loss_B.sum(), weights, allow_unused=True, retain_graph=True)
        rule(all(g is None for g in found), "the primal loss does not reach the dual variables: detach the multiplier")
    if terms.multiplier_B is not None:
        rule(not terms.multiplier_B.requires_grad, "multiplier_B is detached")
    rule(terms.constraint is not None, "an anchor with dual variables returns its constraint")
    assert terms.constraint is not None
    lost = anchor.dual_loss(terms.constraint, targets)
    rule(lost is not None and lost.shape == () and bool(lost.isfinite()), f"the dual loss is a scalar: {shown(lost)}")
    assert lost is not None
    policy = [t for t in (embeddings.perturbed_BD, embeddings.clean_BD) if t is not None]
    found = torch.autograd.grad(lost, [*weights, *policy], allow_unused=True, retain_graph=True)
    rule(any(g is not None and bool((g != 0).any()) for g in found[: len(weights)]), "the dual loss moves the dual")
    rule(all(g is None for g in found[len(weights) :]), "the dual loss does not reach the policy: detach the violation")
    twice = anchor(change_rows(embeddings, double), change_rows(targets, double)).constraint
    again = anchor.dual_loss(twice, change_rows(targets, double)) if twice is not None else None
    rule(again is not None and close(lost, again), "the dual loss is a mean: twice the same batch changes nothing")
