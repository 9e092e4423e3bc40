"""What a step costs where a part of the tower is trained: by formula and counted."""

from dataclasses import replace

import pytest
import torch

from seaanchor.config.assemble import assemble
from seaanchor.config.recipes import fare, lore
from seaanchor.config.schema import AdapterConfig
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.prefix import frozen_prefix
from seaanchor.profiling.cost_model import step_cost
from seaanchor.profiling.flops import forward_flops, least_passes, prefix_flops
from seaanchor.types import Needs

LAYERS, WIDTH, TOKENS = 6, 48, 17


@pytest.fixture(scope="module")
def vit():
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": LAYERS, "width": WIDTH, "head_width": 16, "patch_size": 8, "pool_type": "avg"}
    text = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
    return Encoder(open_clip.CLIP(32, vision, text).visual.eval(), 32).requires_grad_(False)


def test_the_prefix_by_hand(vit):
    """Patches, and four of six blocks: 12·w² products with weights a token and two inner products of attention."""
    list(assemble(replace(lore(), adapter=AdapterConfig(last_blocks=2)), 32).adapter.trainable(vit))
    block = 2 * TOKENS * 12 * WIDTH**2 + 2 * 2 * TOKENS**2 * WIDTH
    by_hand = 4 * block + 2 * (TOKENS - 1) * 3 * 8 * 8 * WIDTH
    assert prefix_flops(vit, frozen_prefix(vit)) == by_hand < forward_flops(vit, 32)
    assert prefix_flops(vit, None) == 0


@pytest.mark.parametrize("exact_dual", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_counted_and_by_formula(vit, exact_dual):
    recipe = lore()
    anchor, attack = replace(recipe.anchor, exact_dual=exact_dual), replace(recipe.perturbation, num_steps=2)
    config = replace(recipe, adapter=AdapterConfig(last_blocks=2), anchor=anchor, perturbation=attack, batch_size=4)
    method = assemble(config, 32, image_size=32)
    passes = step_cost(config, vit, method, 2, cached=True).passes
    list(method.adapter.trainable(vit))
    share = prefix_flops(vit, frozen_prefix(vit)) / forward_flops(vit, 32)
    formula = least_passes(config, method.needs, cached=True, prefix=share)
    assert formula == pytest.approx(4 + 2 * (share + 15 * (1 - share)) + exact_dual * (1 - share))
    # attention's inner products have two inputs, so their gradients cost twice: 6 % of this tower
    assert formula * 0.97 < passes < formula * 1.06
    plain = least_passes(replace(config, adapter=AdapterConfig()), method.needs, cached=True)
    assert plain == 34 + exact_dual and passes < plain / 2


def test_formulas_without_a_prefix_are_whole_numbers():
    assert repr(least_passes(fare(), Needs(pixel_gradient=True), cached=True)) == "23"
