"""The cost model is the real step: the same operations, the same bytes moved and the same peak, counted where nothing
is computed."""

from dataclasses import dataclass, replace

import pytest
import torch

from bench import towers
from seaanchor.config.assemble import assemble
from seaanchor.config.recipes import dpo, dpo_linear, fare, lore
from seaanchor.config.schema import AdapterConfig, PerturbationConfig
from seaanchor.encoders.encoder import Reference
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import frozen, input_grad
from seaanchor.profiling.cost_model import attack_memory, step_cost
from seaanchor.profiling.flops import least_operations, least_passes
from seaanchor.profiling.op_counter import Meter
from seaanchor.profiling.rehearsed import rehearsed
from seaanchor.training.batches import MicroBatch
from seaanchor.training.state import TrainState
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Head, Needs, Targets

CLOSED = towers.vit(2, 5, 32, 16, image_size=32, extra=32 * 16, class_token="queries")


@pytest.fixture
def tower(clip_folder):
    return load_model(str(clip_folder)).encoder


def quick(recipe, batch_size=64):
    return replace(
        recipe,
        batch_size=batch_size,
        primal_steps=min(2, recipe.primal_steps),
        perturbation=replace(recipe.perturbation, num_steps=2),
    )


def real_step(recipe, encoder) -> Meter:
    """A second step on random pixels, metered, with what lay there before it."""
    method, reference, size = assemble(recipe, encoder.dim), Reference(encoder), encoder.image_size
    parameters, dual = list(method.adapter.trainable(encoder)), method.anchor.dual_module()
    dual_optimizer = torch.optim.AdamW(dual.parameters(), lr=1e-3, fused=True) if dual else None
    state = TrainState(encoder, torch.optim.AdamW(parameters, lr=1e-5, fused=True), dual, dual_optimizer)
    batch = Batch(
        torch.rand(recipe.batch_size, 3, size, size),
        torch.zeros(recipe.batch_size, dtype=torch.long),
        torch.arange(recipe.batch_size),
    )
    targets = Targets(reference(batch.pixels_BCHW), batch.label_B, Head(torch.randn(7, encoder.dim), 100.0))

    def step():
        train_step(method, state, [MicroBatch(batch, targets)], recipe, 0, reference)

    step()
    meter = Meter()
    with meter:
        for tensor in (*encoder.parameters(), *(dual.parameters() if dual else []), *encoder.buffers()):
            meter.see(tensor)
        for parameter in (*encoder.parameters(), *(dual.parameters() if dual else [])):
            meter.see(parameter.grad)
        for values in state.optimizer.state.values():
            for value in values.values():
                meter.see(value)
        meter.see(batch.pixels_BCHW)
        step()
    return meter


@pytest.mark.parametrize(
    "recipe",
    [
        *(pytest.param(recipe, marks=pytest.mark.exhaustive) for recipe in (fare(), lore())),
        replace(lore(), precision="bf16"),
    ],
    ids=["fare", "lore", "lore in bf16"],
)
def test_a_step_without_contents_costs_what_a_real_one_costs(tower, recipe):
    recipe = replace(quick(recipe), perturbation=replace(quick(recipe).perturbation, random_start=False))
    cost, real = step_cost(recipe, tower, assemble(recipe, tower.dim), 7, cached=True), real_step(recipe, tower)
    assert cost.step.flops == real.work.flops and set(cost.step.flops) == (
        {"fp32"} if recipe.precision == "fp32" else {"fp32", "bf16"}
    )
    assert cost.step.moved == pytest.approx(real.work.moved, rel=0.01)
    predicted = cost.memory.fixed + cost.memory.per_image * 64
    assert predicted == pytest.approx(real.peak, rel=0.02)


@pytest.mark.exhaustive
def test_attacks_in_low_precision_are_counted_as_such(tower):
    recipe = replace(quick(lore()), precision="bf16", attack_precision="bf16")
    cost = step_cost(recipe, tower, assemble(recipe, tower.dim), 7, cached=True)
    assert cost.step.flops["bf16"] > 10 * cost.step.flops["fp32"]  # the multiplier network stays in fp32


def test_passes_and_parameters(tower):
    recipe, needs = quick(fare()), Needs(pixel_gradient=True)
    for cached in (True, False):
        cost = step_cost(recipe, tower, assemble(fare(), tower.dim), 7, cached=cached)
        assert cost.step.total / 64 == pytest.approx(least_operations(recipe, needs, cached, CLOSED), rel=1e-6)
    assert cost.forward.total == CLOSED.forward
    assert cost.trained == sum(p.numel() for p in tower.parameters())
    assert all(not p.requires_grad for p in tower.parameters()), "the model itself is left alone"


@pytest.mark.exhaustive
def test_every_adapter_and_perturbation_has_a_cost(tower):
    apgd = replace(quick(fare()), perturbation=PerturbationConfig("apgd", num_steps=2))
    drawn = replace(dpo(), batch_size=64)
    lora = replace(drawn, adapter=AdapterConfig("lora", rank=1))
    linear = replace(dpo_linear(), batch_size=64)
    recipes = {"apgd": apgd, "drawn": drawn, "lora": lora, "linear": linear}
    cost = {
        name: step_cost(recipe, tower, assemble(recipe, tower.dim, ("a", "b")), 7, True)
        for name, recipe in recipes.items()
    }
    for name, needs in {
        "apgd": Needs(pixel_gradient=True),
        "drawn": Needs(clean=True, reference_perturbed=True),  # the reference sees the drawn image
    }.items():
        formula = least_operations(recipes[name], needs, True, CLOSED)
        assert cost[name].step.total / 64 == pytest.approx(formula, rel=0.01)
    assert cost["lora"].trained < cost["drawn"].trained / 5 and cost["lora"].memory.fixed < cost["drawn"].memory.fixed
    assert cost["linear"].trained == tower.dim**2 and cost["linear"].passes < 0.3


@pytest.mark.exhaustive
def test_memory_is_a_line_and_the_average_and_the_optimizer_are_on_it(tower):
    plain, averaged = (
        step_cost(replace(quick(fare()), average=kind), tower, assemble(fare(), tower.dim), 7, True).memory
        for kind in ("none", "ema")
    )
    weights = 4 * sum(p.numel() for p in tower.parameters())
    assert averaged.fixed - plain.fixed == pytest.approx(weights, rel=0.05)
    assert averaged.per_image == pytest.approx(plain.per_image)
    twice = step_cost(quick(fare(), 200), tower, assemble(fare(), tower.dim), 7, True).memory
    assert twice.fixed + 200 * twice.per_image == pytest.approx(plain.fixed + 200 * plain.per_image, rel=0.02)


def test_an_attack_of_an_evaluation(tower):
    need = attack_memory(tower, 7)
    meter, pixels = Meter(), torch.rand(100, 3, tower.image_size, tower.image_size)
    head = Head(torch.randn(7, tower.dim), 100.0)
    with meter, frozen(tower):
        input_grad(lambda p: (head(tower(p)).sum(1), p), pixels)
    assert meter.peak < need.fixed + 100 * need.per_image < meter.peak + need.fixed + 14 * pixels.nbytes


@dataclass(frozen=True)
class OwnAttack:
    """A gradient attack that the cost model has never heard of."""

    needs = Needs(pixel_gradient=True)

    def __call__(self, batch, loss, rng):
        return batch


def test_an_attack_of_ones_own_is_not_predicted_as_free():
    with pytest.raises(SeaAnchorError, match=r"the cost of the perturbation OwnAttack is not known[\s\S]*--dry-run"):
        rehearsed(OwnAttack(), 1)
    config = replace(fare(), perturbation=PerturbationConfig("own_attack"))
    assert least_passes(config, Needs(pixel_gradient=True), True) is None
    assert least_passes(fare(), Needs(pixel_gradient=True), True) == 23
