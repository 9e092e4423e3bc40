"""Steps cost what the formula says: counted on a small ViT."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench import towers
from seaanchor.adapters.linear_map import LinearMap
from seaanchor.config.assemble import assemble
from seaanchor.config.recipes import dpo, dpo_linear, fare, lore, penalty, ppo, tecoa
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig
from seaanchor.encoders.encoder import Encoder, Reference
from seaanchor.encoders.load import load_model
from seaanchor.profiling.cost_model import step_cost
from seaanchor.profiling.flops import count_flops, forward_flops, least_operations, least_passes
from seaanchor.training.batches import MicroBatch
from seaanchor.training.state import TrainState
from seaanchor.training.step import train_step
from seaanchor.types import Batch, Head, Needs, Preference, Targets

TINY = towers.vit(12, 5, 192, 16, image_size=32, class_token="projections")


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return load_model("timm:vit_tiny_patch16_224", "none", 32).encoder


def test_counts_by_hand():
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert count_flops(lambda: a @ b)[0] == 2 * 3 * 5 * 7
    image, kernel = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 2, 2)
    assert count_flops(lambda: F.conv2d(image, kernel, stride=2))[0] == 2 * 2 * (4 * 4 * 4) * (3 * 2 * 2)
    q = torch.randn(1, 2, 5, 8)
    flops, out = count_flops(lambda: F.scaled_dot_product_attention(q, q, q))
    assert flops == 2 * (2 * 2 * 5 * 5 * 8) and torch.allclose(out, F.scaled_dot_product_attention(q, q, q), atol=1e-5)


def test_counts_as_torch_does():
    model, x = (
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)),
        torch.randn(2, 3, 8, 8),
    )
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    assert count_flops(lambda: model(x).sum().backward())[0] == counter.get_total_flops()


CONVOLUTIONS = {
    "plain": nn.Conv2d(6, 4, 3, bias=False),
    "grouped": nn.Conv2d(6, 4, 3, groups=2, bias=False),
    "depthwise": nn.Conv2d(6, 12, 3, groups=6, bias=False),
    "strided": nn.Conv2d(6, 6, (3, 2), stride=2, groups=3),
    "dilated": nn.Conv2d(6, 4, 3, dilation=2, groups=2, bias=False),
    "transposed": nn.ConvTranspose2d(6, 4, 3, stride=2, bias=False),
    "transposed, grouped": nn.ConvTranspose2d(6, 9, 3, groups=3),
    "1d": nn.Conv1d(6, 12, 5, groups=6),
    "3d": nn.Conv3d(6, 4, 2, groups=2, bias=False),
    "3d, transposed": nn.ConvTranspose3d(6, 4, 2, dilation=2, groups=2, bias=False),
}


@pytest.mark.parametrize("layer", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_by_hand(layer):
    """Of inputs and weights of one, without padding, the sum of the outputs is the number of products; a gradient takes
    each of them once more."""
    dims = layer.weight.dim() - 2
    x = torch.ones(2, 6, *(8, 7, 9)[:dims])
    ones = copy.deepcopy(layer)
    for parameter in ones.parameters():
        nn.init.constant_(parameter, float(parameter is ones.weight))
    products = int(ones(x).sum().item())
    weights = [p for p in layer.parameters() if p.requires_grad]
    assert count_flops(lambda: torch.no_grad()(layer)(x))[0] == 2 * products
    for wanted, passes in (([x.requires_grad_()], 2), (weights, 2), ([x, *weights], 3)):
        assert (
            count_flops(lambda wanted=wanted: torch.autograd.grad(layer(x).sum(), wanted))[0] == 2 * passes * products
        )


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "regnetx_002"])
def test_forward_and_both_gradients_of_grouped_towers_are_three_passes(name):
    with torch.device("meta"):
        tower, x = timm.create_model(name, num_classes=0).eval(), torch.zeros(1, 3, 64, 64, requires_grad=True)
    forward = count_flops(lambda: torch.no_grad()(tower)(x))[0]
    assert 3 <= count_flops(lambda: tower(x).sum().backward())[0] / forward < 3.04


@pytest.mark.parametrize(("recipe", "formula", "updates"), [(fare(), 9, 1), (lore(), 36, 10)])
def test_a_step_of_a_depthwise_tower_costs_what_the_formula_says(recipe, formula, updates):
    """Three steps of the attack and one or five updates (of one or two images each), as `--dry-run-on` counts them. An
    update needs no gradient to the pixels, which the first layer is spared."""
    recipe = replace(recipe, perturbation=replace(recipe.perturbation, num_steps=3), batch_size=2)
    layers = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 16, 5, groups=16), nn.Conv2d(16, 64, 1), nn.AdaptiveAvgPool2d(1)
    encoder = Encoder(nn.Sequential(*layers, nn.Flatten()), 32)
    method = assemble(recipe, encoder.dim)
    assert least_passes(recipe, method.needs, cached=True) == formula
    first = count_flops(lambda: layers[0](torch.zeros(1, 3, 32, 32)))[0] / forward_flops(encoder, 32)
    cost = step_cost(recipe, encoder, method, 5, cached=True)
    assert cost.passes == pytest.approx(formula - updates * first, rel=0.03)  # multipliers


def test_forward_of_a_vit_by_formula(vit):
    """F ≈ 24·L·T·w² + 4·L·T²·w + patch embedding, with 12 layers, 4 + 1 tokens, width 192."""
    layers, tokens, width = 12, 5, 192
    formula = 24 * layers * tokens * width**2 + 4 * layers * tokens**2 * width + 2 * 4 * 3 * 16 * 16 * width
    assert forward_flops(vit, 32) == formula


def test_fused_attention_of_a_text_style_transformer_is_not_overlooked(clip_folder):
    """open_clip's towers use nn.MultiheadAttention, whose fast path is one opaque kernel."""
    encoder = load_model(str(clip_folder)).encoder
    layers, tokens, width = 2, 5, 32
    formula = (
        24 * layers * tokens * width**2 + 4 * layers * tokens**2 * width + 2 * 4 * 3 * 16 * 16 * width + 2 * width * 16
    )
    assert forward_flops(encoder, 32) == formula


@pytest.mark.parametrize(
    ("recipe", "formula"),
    [
        (fare(), 23),
        (lore(), 50),
        (penalty(), 26),
        (tecoa(), 23),
        (replace(fare(), perturbation=PerturbationConfig("apgd")), 24),
        (replace(lore(), anchor=AnchorConfig("lagrangian", exact_dual=True)), 51),
    ],
)
def test_a_step_costs_what_the_formula_says(vit, recipe, formula):
    method, reference = assemble(recipe, vit.dim), Reference(vit)
    batch = Batch(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]), torch.arange(2))
    targets = Targets(
        reference(batch.pixels_BCHW), batch.label_B, Head(F.normalize(torch.randn(5, vit.dim), dim=-1), 100.0)
    )
    dual = method.anchor.dual_module()
    dual_optimizer = torch.optim.AdamW(dual.parameters(), lr=1e-3) if dual else None
    state = TrainState(vit, torch.optim.AdamW(list(method.adapter.trainable(vit)), lr=1e-5), dual, dual_optimizer)
    flops, _ = count_flops(lambda: train_step(method, state, [MicroBatch(batch, targets)], recipe, 0))
    assert flops / 2 == pytest.approx(
        least_operations(recipe, method.needs, True, TINY), rel=0.01
    )  # heads, multipliers
    assert least_passes(recipe, method.needs, cached=True) == formula
    assert 0.9 * formula <= flops / 2 / forward_flops(reference, 32) <= 1.02 * formula
    vit.zero_grad(set_to_none=True)


@pytest.mark.parametrize(("reference_free", "formula"), [(True, 6), (False, 7)])
def test_a_preference_step_costs_6_f_a_pair(vit, reference_free, formula):
    """Lettered and clean images trained on together, the clean reference cached; how the reference sees the lettered
    ones is one forward more."""
    recipe = replace(dpo(), perturbation=PerturbationConfig("none"))
    recipe = replace(recipe, objective=replace(recipe.objective, reference_free=reference_free))
    method, reference = assemble(recipe, vit.dim), Reference(vit)
    batch = Batch(
        torch.rand(2, 3, 32, 32),
        torch.tensor([0, 1]),
        torch.arange(2),
        Preference(torch.tensor([0, 1]), torch.tensor([2, 3])),
    )
    targets = Targets(
        reference(batch.pixels_BCHW), batch.label_B, Head(F.normalize(torch.randn(5, vit.dim), dim=-1), 100.0)
    )
    state = TrainState(vit, torch.optim.Adamax(list(method.adapter.trainable(vit)), lr=1e-5), None, None)
    method = replace(method, perturbation=lambda batch, loss, rng: batch)
    flops, _ = count_flops(lambda: train_step(method, state, [MicroBatch(batch, targets)], recipe, 0, reference))
    assert flops / 2 == pytest.approx(least_operations(recipe, method.needs, True, TINY), rel=0.01)
    assert least_passes(recipe, method.needs, cached=True) == formula
    vit.zero_grad(set_to_none=True)


@pytest.mark.parametrize("updates", [1, 3])
def test_the_policy_before_the_step_costs_no_pass(vit, updates):
    """PPO has it from its first update: 6 F a pair and update, and nothing of the reference beside its cache."""
    recipe = replace(ppo(), perturbation=PerturbationConfig("none"), primal_steps=updates)
    method, reference = assemble(recipe, vit.dim), Reference(vit)
    pairs = Preference(torch.tensor([0, 1]), torch.tensor([2, 3]))
    batch = Batch(torch.rand(2, 3, 32, 32), torch.tensor([0, 1]), torch.arange(2), pairs)
    head = Head(F.normalize(torch.randn(5, vit.dim), dim=-1), 100.0)
    targets = Targets(reference(batch.pixels_BCHW), batch.label_B, head)
    state = TrainState(vit, torch.optim.Adamax(list(method.adapter.trainable(vit)), lr=1e-5), None, None)
    flops, _ = count_flops(lambda: train_step(method, state, [MicroBatch(batch, targets)], recipe, 0))
    assert flops / 2 == pytest.approx(least_operations(recipe, method.needs, True, TINY), rel=0.01)
    assert least_passes(recipe, method.needs, cached=True) == 6 * updates
    vit.zero_grad(set_to_none=True)


def test_a_linear_step_never_enters_the_tower():
    """0 F beyond the embedding pass: four more images cost what a map costs, not a tower."""
    dim, recipe = 192, replace(dpo_linear(), perturbation=PerturbationConfig("none"))
    method, policy = assemble(recipe, dim), LinearMap(dim)
    state = TrainState(policy, torch.optim.AdamW(list(method.adapter.trainable(policy)), lr=1e-3), None, None)
    flops = []
    for count in (4, 8):
        embeddings_BD = torch.randn(count, dim)
        batch = Batch(
            embeddings_BD,
            None,
            torch.arange(count),
            Preference(torch.zeros(count, dtype=torch.long), torch.ones(count, dtype=torch.long)),
        )
        targets = Targets(embeddings_BD, None, Head(F.normalize(torch.randn(5, dim), dim=-1), 100.0))
        flops.append(
            count_flops(partial(train_step, method, state, [MicroBatch(batch, targets)], recipe, 0, lambda x: x))[0]
        )
    maps = (flops[1] - flops[0]) / 4 / (2 * dim**2)
    assert 0 < maps < 7  # two embeddings of an image, forward and to the weights; and their products with five texts
    assert least_passes(recipe, method.needs, cached=True) == 0


def test_formula_counts_what_is_asked_for():
    assert least_passes(fare(), Needs(), cached=False) == 24
    clean = replace(tecoa(), objective=ObjectiveConfig("cross_entropy"), perturbation=PerturbationConfig("none"))
    assert least_passes(clean, Needs(clean=True), cached=True) == 6
    assert least_passes(replace(lore(), primal_steps=2), Needs(clean=True), cached=True) == 32
