"""Closed forms of towers against published numbers, and steps counted on them against the formula."""

from dataclasses import replace

import pytest
import torchvision

from bench import towers
from bench.architectures import ARCHITECTURES, counted
from seaanchor.config.recipes import fare, lore, tecoa
from seaanchor.config.schema import PerturbationConfig
from seaanchor.profiling.flops import Tower, least_operations
from seaanchor.types import Needs

PUBLISHED = {
    "ResNet50": towers.resnet50(),
    "ConvNeXt_Tiny": towers.convnext_tiny(),
    "Swin_T": towers.swin_tiny(),
    "MobileNet_V3_Large": towers.mobilenet_v3_large(),
    "ViT_B_32": towers.vit(12, 50, 768, 32),
    "ViT_B_16": towers.vit(12, 197, 768, 16),
}
FEATURES = {"ResNet50": 2048, "MobileNet_V3_Large": 1280}
QUICK = ("ViT-B-32",)


@pytest.mark.parametrize("name", PUBLISHED)
def test_closed_forms_are_what_torchvision_publishes(name):
    """Its documentation tells thousands of millions of multiplications, with a classifier of 1,000 classes."""
    weights = torchvision.models.get_model_weights(name)
    published = next(iter(weights)).meta["_ops"]
    ours = PUBLISHED[name].forward / 2e9 + FEATURES.get(name, 768) * 1000 / 1e9
    assert ours == pytest.approx(published, abs=6e-4)


def test_efficientnet_lite_is_b0_without_squeeze_and_excitation():
    """torchvision's number for EfficientNet-B0 (386 million) has B0's squeeze-and-excitation, a quarter of each block's
    inputs wide. TensorFlow's own table of the lite models says 407 million, in which more than products is counted."""
    inputs = [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192]
    middles = [32, *(6 * width for width in inputs[1:])]
    squeezing = sum(2 * middle * (width // 4) for middle, width in zip(middles, inputs, strict=True))
    published = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1.meta["_ops"]
    ours = (towers.efficientnet_lite0().forward / 2 + squeezing + 1280 * 1000) / 1e9
    assert ours == pytest.approx(published, abs=1e-3)
    assert 0.93 < (ours - squeezing / 1e9) / 0.407 < 0.97


def test_clip_towers_are_known_by_their_tables():
    """RegNetX-200MF is named after its multiplications; CLIP's paper gives none, so the sum is written out."""
    assert towers.regnet_x_200mf().forward / 2e6 == pytest.approx(200, rel=0.02)
    assert towers.vit(1, 2, 4, 8, image_size=8, extra=5) == Tower(
        2 * (2 * 12 * 16 + 5) + 2 * 3 * 64 * 4, 2 * 2 * 4 * 4, 2 * 3 * 64 * 4
    )


def test_what_a_class_token_leaves_out():
    """Two tokens of width 4, an MLP of 8·16 products: one token is not read, with its query or without."""
    plain = towers.vit(3, 2, 4, 8, image_size=8)
    for kind, products in (("queries", 2 * 16 + 128), ("projections", 16 + 128)):
        tower = towers.vit(3, 2, 4, 8, image_size=8, class_token=kind)
        assert (tower.forward, tower.unread) == (plain.forward, 2 * products)
        assert tower.unread_inner == 2 * 2 * 2 * 4 and tower.read == plain.read - 2 * products - 32


def test_the_formula_in_operations_by_hand():
    """A tower of 10 operations, 2 of them of attention and 3 of the first layer."""
    tower = Tower(8, 2, 3)
    assert least_operations(fare(), Needs(pixel_gradient=True), True, tower) == 23 * 10 + 10 * 2 - 3
    both = Needs(pixel_gradient=True, clean=True)
    assert least_operations(lore(), both, True, tower) == 50 * 10 + 10 * 2 - 5 * 2 * 3
    assert least_operations(tecoa(), Needs(pixel_gradient=True), False, tower) == 24 * 10 + 10 * 2 - 3
    saved = replace(tower, unread=4, unread_inner=1)  # 5 operations of 10 are read, and the reference computes all
    assert least_operations(fare(), Needs(pixel_gradient=True), False, saved) == 23 * 5 + 10 * 1 - 3 + 10
    without = replace(fare(), perturbation=PerturbationConfig("none"))
    assert least_operations(without, Needs(), True, tower) == 3 * 10 - 3
    lora = replace(fare(), adapter=replace(fare().adapter, kind="lora"))
    assert least_operations(lora, Needs(pixel_gradient=True), True, tower) is None
    linear = replace(fare(), adapter=replace(fare().adapter, kind="linear"), perturbation=PerturbationConfig("none"))
    assert least_operations(linear, Needs(), True, tower) == 0


def short(recipe):
    return replace(recipe, perturbation=replace(recipe.perturbation, num_steps=2), primal_steps=1)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.exhaustive) for name in ARCHITECTURES]
)
def test_a_step_costs_what_the_formula_says_on_every_tower(name):
    """FARE to 1 in 10,000: nothing but products of the tower. LORE has a multiplier network beside it."""
    count, formula = counted(ARCHITECTURES[name], short(fare()))
    assert count == pytest.approx(formula, rel=1e-4)
    count, formula = counted(ARCHITECTURES[name], short(lore()))
    assert 1 <= count / formula < 1.01


def test_there_are_twelve_and_more():
    assert len(ARCHITECTURES) >= 12
