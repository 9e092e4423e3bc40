"""Recipes hold no logic, and every legal composition of parts trains: the contract of all parts."""

import inspect
import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from seaanchor.adapters.full import Full
from seaanchor.anchors.constraints import distribution_constraint, embedding_constraint
from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.anchors.penalty import NoAnchor, Penalty
from seaanchor.config import AnchorConfig, ObjectiveConfig, PerturbationConfig, check, needs_classes
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.errors import SeaAnchorError
from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.objectives.supervised import TeCoA
from seaanchor.parts import Batch, Head, Targets
from seaanchor.perturbations.pgd import PGD
from seaanchor.recipes import RECIPES, assemble, fare, lore, penalty, tecoa, tecoa_kl, tecoa_lore
from seaanchor.step import Moving, train_step

PARTS = {
    "fare": (EmbeddingDistance, NoAnchor, None), "lore": (EmbeddingDistance, Lagrangian, embedding_constraint),
    "penalty": (EmbeddingDistance, Penalty, embedding_constraint), "tecoa": (TeCoA, NoAnchor, None),
    "tecoa-lore": (TeCoA, Lagrangian, embedding_constraint), "tecoa-kl": (TeCoA, Lagrangian, distribution_constraint),
    "fare-tiny": (EmbeddingDistance, NoAnchor, None), "lore-tiny": (EmbeddingDistance, Lagrangian, embedding_constraint),
    "fare-quick": (EmbeddingDistance, NoAnchor, None), "lore-quick": (EmbeddingDistance, Lagrangian, embedding_constraint),
}  # fmt: skip


class OneProcess:
    num_processes, process_index = 1, 0

    def unwrap_model(self, model):
        return model

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, parameters, norm):
        torch.nn.utils.clip_grad_norm_(parameters, norm)


@pytest.mark.parametrize("name", PARTS)
def test_a_recipe_is_the_composition_its_name_promises(name):
    method = assemble(check(RECIPES[name]()), dim=6)
    objective, anchor, constraint = PARTS[name]
    assert type(method.objective) is objective and type(method.anchor) is anchor
    assert type(method.perturbation) is PGD and type(method.adapter) is Full
    assert constraint is None or method.anchor.constraint_of is constraint


def test_settings_reach_the_parts():
    """A setting accepted and never passed on is the worst of them."""
    anchor = AnchorConfig(
        "lagrangian", margin="fixed", rho=0.3, dual="linear", initial_multiplier=2.0, max_multiplier=2.5, on="embedding",
    )  # fmt: skip
    attack = PerturbationConfig("pgd", norm="l2", epsilon="0.5", num_steps=7, step_size="0.05", random_start=False, momentum=0.9)
    method = assemble(replace(lore(), anchor=anchor, perturbation=attack), dim=6)
    dual = method.anchor.dual
    assert (method.anchor.rho, method.anchor.adaptive) == (0.3, False) and dual.hidden is None and dual.maximum == 2.5
    assert torch.allclose(dual(torch.randn(3, 6)), torch.full((3,), 2.0))
    p = method.perturbation
    assert (p.ball.norm, p.ball.epsilon, p.num_steps, p.step_size, p.random_start, p.momentum) == ("l2", 0.5, 7, 0.05, False, 0.9)
    assert assemble(lore(), 6).anchor.dual.hidden.out_features == 512
    assert assemble(replace(lore(), anchor=AnchorConfig("lagrangian", dual="scalar")), 6).anchor.dual.weight is None
    assert assemble(penalty(weight=3.0), 6).anchor.weight == 3.0
    apgd = assemble(replace(fare(), perturbation=PerturbationConfig("apgd", epsilon="3/255", num_steps=4)), 6).perturbation
    assert (apgd.ball.epsilon, apgd.num_steps) == (3 / 255, 4)


def test_settings_of_the_papers():
    assert (lore().primal_steps, lore().anchor.rho, lore().lr, lore().wd, lore().anchor.dual_lr) == (5, 0.1, 1e-5, 1e-4, 5e-4)
    for recipe in (fare(), lore(), penalty(), tecoa(), tecoa_lore(), tecoa_kl()):
        assert (recipe.perturbation.num_steps, recipe.perturbation.epsilon, recipe.perturbation.random_start) == (10, "2/255", True)
    assert fare(epsilon="4/255").perturbation.epsilon == "4/255" and lore(rho=0.2).anchor.rho == 0.2
    assert {fare().primal_steps, tecoa().primal_steps, penalty().primal_steps} == {1}


def test_recipes_have_no_branches():
    """`if "lore" in name` starts here."""
    import seaanchor.recipes

    for recipe in (*RECIPES.values(), assemble, seaanchor.recipes.perturbation_of):
        source = inspect.getsource(recipe)
        assert "\n    if " not in source and len(source.splitlines()) <= 45, recipe


OBJECTIVES = ["embedding_distance", "tecoa", "cross_entropy"]
ANCHORS = [("none", "embedding"), *itertools.product(["penalty", "lagrangian"], ["embedding", "distribution"])]
PERTURBATIONS = ["none", "pgd", "apgd"]


@pytest.mark.parametrize("perturbation", PERTURBATIONS)
@pytest.mark.parametrize("anchor", ANCHORS, ids="-".join)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_legal_composition_trains(objective, anchor, perturbation):
    kind, on = anchor
    config = replace(
        fare(), objective=ObjectiveConfig(objective), anchor=AnchorConfig(kind, on=on, dual_hidden=8),
        perturbation=PerturbationConfig(perturbation, epsilon="8/255", num_steps=2), primal_steps=2, grad_clip=1.0,
    )  # fmt: skip
    if objective == "embedding_distance" and perturbation == "none":
        with pytest.raises(SeaAnchorError, match="0 from the start"):
            check(config)
        return
    torch.manual_seed(0)
    encoder = Encoder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6)), 4, 6, (0.5,) * 3, (0.5,) * 3)
    reference, method = Reference(encoder), assemble(check(config), 6)
    batch = Batch(torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 2, 3, 0]), torch.arange(5))
    head = Head(F.normalize(torch.randn(4, 6), dim=-1), 10.0) if needs_classes(config) else None
    assert needs_classes(config) == (method.needs.head or method.needs.labels)
    targets = Targets(reference(batch.pixels_BCHW), batch.label_B, head)
    before = [p.clone() for p in encoder.parameters()]
    dual = method.anchor.dual_module()
    dual_optimizer = torch.optim.AdamW(dual.parameters()) if dual is not None else None
    moving = Moving(encoder, torch.optim.AdamW(list(method.adapter.trainable(encoder)), lr=1e-2), dual, dual_optimizer)
    record = train_step(method, moving, OneProcess(), batch, targets, config, 0)
    assert record.objective_B.shape == (5,) and record.objective_B.isfinite().all()
    assert any(not torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    assert all(p.isfinite().all() for p in encoder.parameters())
    assert (record.constraint is None) == (kind == "none") and (record.multiplier_B is None) == (kind != "lagrangian")
    if record.constraint is not None:
        assert record.constraint.distance_B.shape == record.constraint.bound_B.shape == (5,)
        assert (record.constraint.distance_B >= 0).all() and (record.constraint.bound_B >= 0).all()


@pytest.mark.parametrize("recipe", [tecoa(), tecoa_kl()])
def test_parts_that_need_classes_say_so(recipe):
    assert assemble(recipe, 6).needs.head and needs_classes(recipe)
