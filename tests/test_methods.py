"""Recipes hold no logic, and every legal composition of parts trains: the contract of all parts."""

import inspect
import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from seaanchor import methods
from seaanchor.adapters.full import Full
from seaanchor.adapters.linear_map import Linear, LinearMap
from seaanchor.adapters.lora import LoRA
from seaanchor.anchors.constraints import distribution_constraint, embedding_constraint
from seaanchor.anchors.lagrangian import Lagrangian
from seaanchor.anchors.penalty import NoAnchor, Penalty
from seaanchor.config.assemble import assemble, unused_settings
from seaanchor.config.recipes import RECIPES, dpo, fare, ipo, kto, lore, penalty, tecoa, tecoa_kl, tecoa_lore
from seaanchor.config.schema import AdapterConfig, AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.config.validation import check, needs_classes
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.errors import SeaAnchorError
from seaanchor.objectives.embedding import EmbeddingDistance
from seaanchor.objectives.policy_gradient import PPO
from seaanchor.objectives.preference import DPO, IPO, KTO
from seaanchor.objectives.supervised import CrossEntropy, TeCoA
from seaanchor.perturbations.attribute import AttributeSwap
from seaanchor.perturbations.none import NoPerturbation
from seaanchor.perturbations.pgd import PGD
from seaanchor.perturbations.typographic import Typographic
from seaanchor.registry import BUILT_IN
from seaanchor.training.batches import MicroBatch
from seaanchor.training.state import TrainState
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Head, Preference, Targets

PARTS = {
    "fare": (EmbeddingDistance, NoAnchor, None, PGD, Full),
    "lore": (EmbeddingDistance, Lagrangian, embedding_constraint, PGD, Full),
    "penalty": (EmbeddingDistance, Penalty, embedding_constraint, PGD, Full),
    "tecoa": (TeCoA, NoAnchor, None, PGD, Full),
    "tecoa-lore": (TeCoA, Lagrangian, embedding_constraint, PGD, Full),
    "tecoa-kl": (TeCoA, Lagrangian, distribution_constraint, PGD, Full),
    "dpo": (DPO, Penalty, distribution_constraint, Typographic, Full),
    "ipo": (IPO, Penalty, distribution_constraint, Typographic, Full),
    "kto": (KTO, Penalty, distribution_constraint, Typographic, Full),
    "ppo": (PPO, Penalty, distribution_constraint, Typographic, Full),
    "typographic-ce": (CrossEntropy, NoAnchor, None, Typographic, Full),
    "dpo-lore": (DPO, Lagrangian, embedding_constraint, Typographic, Full),
    "dpo-linear": (DPO, Penalty, distribution_constraint, Typographic, Linear),
    "gender-flip": (IPO, NoAnchor, None, AttributeSwap, Linear),
}
TEXTS = ("man", "woman", "he", "she")  # short enough to be drawn on 16 pixels


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_composition_its_name_promises(name):
    """`-tiny`, `-lite` and `-quick` are budgets of the method named before."""
    method = assemble(check(RECIPES[name]()), 6, TEXTS)
    objective, anchor, constraint, perturbation, adapter = PARTS[
        name.removesuffix("-tiny").removesuffix("-lite").removesuffix("-quick")
    ]
    assert type(method.objective) is objective and type(method.anchor) is anchor
    assert type(method.perturbation) is perturbation and type(method.adapter) is adapter
    assert constraint is None or method.anchor.constraint_of is constraint


def test_settings_reach_the_parts():
    """A setting accepted and never passed on is the worst of them."""
    anchor = AnchorConfig(
        "lagrangian",
        margin="fixed",
        rho=0.3,
        dual="linear",
        initial_multiplier=2.0,
        max_multiplier=2.5,
        space="embedding",
    )
    attack = PerturbationConfig(
        "pgd", norm="l2", epsilon="0.5", num_steps=7, step_size="0.05", random_start=False, momentum=0.9
    )
    method = assemble(replace(lore(), anchor=anchor, perturbation=attack), dim=6)
    dual = method.anchor.dual
    assert (method.anchor.rho, method.anchor.adaptive) == (0.3, False) and dual.hidden is None and dual.maximum == 2.5
    assert torch.allclose(dual(torch.randn(3, 6)), torch.full((3,), 2.0))
    p = method.perturbation
    assert (p.ball.norm, p.ball.epsilon, p.num_steps, p.step_size, p.random_start, p.momentum) == (
        "l2",
        0.5,
        7,
        0.05,
        False,
        0.9,
    )
    assert assemble(lore(), 6).anchor.dual.hidden.out_features == 512
    assert assemble(replace(lore(), anchor=AnchorConfig("lagrangian", dual="scalar")), 6).anchor.dual.weight is None
    assert assemble(penalty(weight=3.0), 6).anchor.weight == 3.0
    apgd = assemble(
        replace(fare(), perturbation=PerturbationConfig("apgd", epsilon="3/255", num_steps=4)), 6
    ).perturbation
    assert (apgd.ball.epsilon, apgd.num_steps) == (3 / 255, 4)


def test_settings_of_preferences_and_adapters_reach_the_parts():
    def method(**parts):
        return assemble(replace(dpo(), seed=5, **parts), 6, TEXTS)

    assert method(
        objective=ObjectiveConfig("dpo", beta=0.3, label_smoothing=0.1, reference_free=True)
    ).objective == DPO(0.3, 0.1, True)
    assert method(objective=ObjectiveConfig("ipo", beta=0.2)).objective == IPO(0.2)
    assert method(
        objective=ObjectiveConfig("kto", beta=0.4, desirable_weight=2.0, undesirable_weight=3.0)
    ).objective == KTO(0.4, 2.0, 3.0)
    assert method(objective=ObjectiveConfig("ppo", clip=0.3)).objective == PPO(0.3)
    drawn = method(
        perturbation=PerturbationConfig("typographic", words="odd", fonts="unseen", sizes=(0.2, 0.3), variants=4)
    ).perturbation
    assert drawn == Typographic(TEXTS, "odd", "unseen", (0.2, 0.3), 4, 5)
    swapped = method(perturbation=PerturbationConfig("attribute", flip=True)).perturbation
    assert list(swapped.partner) == [1, 0, 3, 2] and swapped.flip  # man and woman of each activity
    assert method(adapter=AdapterConfig("linear", orthogonality=0.7)).adapter == Linear(0.7)
    assert method(adapter=AdapterConfig("lora", rank=3, alpha=6.0)).adapter == LoRA(3, 6.0)


def test_settings_of_the_papers():
    assert (lore().primal_steps, lore().anchor.rho, lore().lr, lore().wd, lore().anchor.dual_lr) == (
        5,
        0.1,
        1e-5,
        1e-4,
        5e-4,
    )
    for recipe in (fare(), lore(), penalty(), tecoa(), tecoa_lore(), tecoa_kl()):
        assert (recipe.perturbation.num_steps, recipe.perturbation.epsilon, recipe.perturbation.random_start) == (
            10,
            "2/255",
            True,
        )
    for recipe, beta, weight in ((dpo(), 1.0, 1.0), (ipo(), 0.01, 0.01), (kto(), 1.5, 0.01)):
        assert (recipe.objective.beta, recipe.anchor.weight, recipe.lr, recipe.batch_size, recipe.epochs) == (
            beta,
            weight,
            2e-5,
            512,
            3,
        )
        assert (recipe.optimizer, recipe.average, recipe.warmup) == ("adamax", "beta", 0)
    assert fare(epsilon="4/255").perturbation.epsilon == "4/255" and lore(rho=0.2).anchor.rho == 0.2
    assert {fare().primal_steps, tecoa().primal_steps, penalty().primal_steps} == {1}


def test_recipes_have_no_branches():
    """`if "lore" in name` starts here."""
    for recipe in RECIPES.values():
        source = inspect.getsource(recipe)
        assert "\n    if " not in source and len(source.splitlines()) <= 45, recipe


OBJECTIVES = tuple(BUILT_IN["objective"])
ANCHORS = [
    ("none", "embedding"),
    ("kl", "embedding"),
    *itertools.product(["penalty", "lagrangian"], ["embedding", "distribution"]),
]
PERTURBATIONS = (*BUILT_IN["perturbation"], "typographic+pgd", "typographic+apgd")


def composition(objective: str, anchor: tuple[str, str], perturbation: str, adapter: str = "full") -> RunConfig:
    attack = PerturbationConfig(perturbation, epsilon="8/255", num_steps=2, variants=2)
    return replace(
        fare(),
        objective=ObjectiveConfig(objective),
        anchor=AnchorConfig(anchor[0], space=anchor[1], dual_hidden=8, exact_dual=True),
        perturbation=attack,
        adapter=AdapterConfig(adapter, rank=2),
        primal_steps=2,
        grad_clip=1.0,
    )


def legal(config: RunConfig) -> bool:
    try:
        check(config)
    except SeaAnchorError:
        return False
    return True


@pytest.mark.parametrize("adapter", ["full", "lora"])  # a linear map trains on stored embeddings: with whole runs
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_legal_composition_trains(objective, adapter):
    trained = 0
    for anchor, perturbation in itertools.product(ANCHORS, PERTURBATIONS):
        config = composition(objective, anchor, perturbation, adapter)
        if legal(config):
            one_step(config)
            trained += 1
    assert trained == {"embedding_distance": 5, "tecoa": 6, "cross_entropy": 6}.get(objective, 7) * len(ANCHORS)


def one_step(config: RunConfig) -> None:
    torch.manual_seed(0)
    encoder = Encoder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 6)), 16, 6, (0.5,) * 3, (0.5,) * 3)
    reference, method = Reference(encoder), assemble(config, 6, TEXTS)
    label_B = torch.tensor([0, 1, 2, 3, 0])
    batch = Batch(torch.rand(5, 3, 16, 16), label_B, torch.arange(5), Preference(label_B, label_B.flip(0) ^ 1))
    assert needs_classes(config) or not (method.needs.head or method.needs.labels or method.needs.pairs)
    head = Head(F.normalize(torch.randn(4, 6), dim=-1), 10.0) if needs_classes(config) else None
    targets = Targets(reference(batch.pixels_BCHW), batch.label_B, head)
    dual, parameters = method.anchor.dual_module(), list(method.adapter.trainable(encoder))
    before = [p.clone() for p in parameters]
    dual_optimizer = torch.optim.AdamW(dual.parameters()) if dual is not None else None
    state = TrainState(encoder, torch.optim.AdamW(parameters, lr=1e-2), dual, dual_optimizer)
    record = train_step(method, state, [MicroBatch(batch, targets)], config, 0, reference)
    assert record.objective_B.shape == (5,) and record.objective_B.isfinite().all()
    assert any(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    assert all(p.isfinite().all() for p in encoder.parameters())
    kind = config.anchor.kind
    assert (record.constraint is None) == (kind == "none") and (record.multiplier_B is None) == (kind != "lagrangian")
    if record.constraint is not None:
        assert record.constraint.distance_B.shape == record.constraint.bound_B.shape == (5,)
        assert (record.constraint.distance_B >= -1e-6).all() and (record.constraint.bound_B >= 0).all()


def test_illegal_compositions_are_told_what_would_be_legal():
    refused = [
        ("embedding_distance", ("none", "embedding"), "none", "full"),
        ("tecoa", ("none", "embedding"), "attribute", "full"),
        ("dpo", ("kl", "embedding"), "pgd", "linear"),
        ("embedding_distance", ("none", "embedding"), "typographic", "linear"),
        ("dpo", ("lagrangian", "embedding"), "typographic", "linear"),
    ]
    for objective, anchor, perturbation, adapter in refused:
        with pytest.raises(SeaAnchorError) as error:
            check(composition(objective, anchor, perturbation, adapter))
        assert error.value.expected and error.value.change


def test_the_exact_dual_step_sees_the_maps_own_texts():
    """A linear map turns images and texts alike: at its orthogonal start no class distribution has moved."""
    config = composition("dpo", ("lagrangian", "distribution"), "typographic", "linear")
    method = replace(assemble(check(config), 6, TEXTS), perturbation=NoPerturbation())
    torch.manual_seed(0)
    policy, label_B = LinearMap(6), torch.tensor([0, 1, 2])
    batch = Batch(torch.randn(3, 6), label_B, torch.arange(3), Preference(label_B, label_B + 1))
    targets = Targets(batch.pixels_BCHW, label_B, Head(F.normalize(torch.randn(4, 6), dim=-1), 10.0))
    state = TrainState(policy, torch.optim.SGD(method.adapter.trainable(policy), lr=0.0), method.anchor.dual, None)
    record = train_step(method, state, [MicroBatch(batch, targets)], config, 0, torch.nn.Identity())
    assert record.constraint.distance_B.abs().max() < 1e-5


def test_the_step_adds_the_adapters_penalty():
    config = composition("dpo", ("none", "embedding"), "typographic", "linear")
    method = assemble(check(config), 6, TEXTS)
    policy, label_B = LinearMap(6), torch.tensor([0, 1, 2])
    policy.weight.data = torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    batch = Batch(torch.randn(3, 6), label_B, torch.arange(3))
    targets = Targets(
        batch.pixels_BCHW, label_B, Head(torch.eye(4, 6), 10.0), Preference(label_B, label_B + 1), batch.pixels_BCHW
    )
    terms = method.primal_terms(policy, batch, batch, targets, policy)
    assert torch.allclose(terms.total_B, terms.objective_B + 3.0)  # ‖W Wᵀ − 1‖ = 4 − 1


@pytest.mark.parametrize("recipe", [tecoa(), tecoa_kl()])
def test_parts_that_need_classes_say_so(recipe):
    assert assemble(recipe, 6).needs.head and needs_classes(recipe)


def test_a_misspelt_radius_gets_its_name():
    with pytest.raises(SeaAnchorError, match="did you mean epsilon"):
        methods.lore(rho=0.1, eps=2 / 255)


def test_settings_that_no_part_takes_are_found():
    """None in a recipe; those that are given beside one by mistake."""
    assert not {name: found for name, make in RECIPES.items() if (found := unused_settings(make()))}
    mistaken = replace(
        fare(),
        objective=ObjectiveConfig(beta=3),
        anchor=AnchorConfig(rho=0.3),
        adapter=AdapterConfig(rank=5),
    )
    assert unused_settings(mistaken) == ["objective.beta", "anchor.rho", "adapter.rank"]
    assert unused_settings(replace(dpo(), perturbation=replace(dpo().perturbation, epsilon="1/255"))) == [
        "perturbation.epsilon"
    ]
