"""No radius is larger than all distances of images, wherever a radius is taken."""

import math

import pytest
import torch
from torch import nn

from seaanchor.attacks.apgd_classifier import apgd_ce
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classifiers import APGD, PGD, Square
from seaanchor.attacks.embedding import EmbeddingAttack
from seaanchor.attacks.square import square_attack
from seaanchor.config.assemble import assemble
from seaanchor.config.recipes import fare
from seaanchor.config.schema import PerturbationConfig, parse_epsilon, replace
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.radii import check_radius
from seaanchor.types import Batch

SIZE = 6
FARTHEST = math.dist([0.0] * 3 * SIZE**2, [1.0] * 3 * SIZE**2)  # black and white
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 4)).requires_grad_(False)
PIXELS = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
LABEL = MODEL(PIXELS).argmax(-1)

TAKERS = {
    "PGD": lambda epsilon: PGD(epsilon, "l2", num_steps=1)(MODEL, PIXELS, LABEL),
    "APGD": lambda epsilon: APGD(epsilon, "l2", num_steps=1)(MODEL, PIXELS, LABEL),
    "Square": lambda epsilon: Square(epsilon, "l2", num_queries=1)(MODEL, PIXELS, LABEL),
    "EmbeddingAttack": lambda epsilon: EmbeddingAttack(epsilon, "l2", num_steps=1)(MODEL, PIXELS),
    "apgd_ce": lambda epsilon: apgd_ce(MODEL, PIXELS, LABEL, Ball("l2", epsilon), num_steps=0, index_B=torch.arange(2)),
    "square_attack": lambda epsilon: square_attack(
        MODEL, Batch(PIXELS, LABEL, torch.arange(2)), Ball("l2", epsilon), num_queries=1
    ),
    "projection": lambda epsilon: Ball("l2", epsilon).project(PIXELS, PIXELS),
    "settings": lambda epsilon: parse_epsilon(str(epsilon), "l2", SIZE),
    "training": lambda epsilon: assemble(
        replace(fare(), perturbation=PerturbationConfig("pgd", "l2", str(epsilon))), 4, image_size=SIZE
    ),
    "training with apgd": lambda epsilon: assemble(
        replace(fare(), perturbation=PerturbationConfig("apgd", "l2", str(epsilon))), 4, image_size=SIZE
    ),
    "its step": lambda epsilon: assemble(
        replace(fare(), perturbation=PerturbationConfig("pgd", "l2", "0.5", step_size=str(epsilon))), 4, image_size=SIZE
    ),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_an_l2_ball_larger_than_all_images_is_refused(take):
    take(FARTHEST)
    take(0.5)
    for epsilon in (1.001 * FARTHEST, 128.0):
        with pytest.raises(SeaAnchorError, match=f"did you mean {epsilon:g}/255"):
            take(epsilon)


def test_the_limit_is_that_of_the_size():
    check_radius(128, "l2", (3, 224, 224))
    check_radius(110.8, "l2", (3, 64, 64))  # √(3 · 64²) = 110.85
    check_radius(128, "l2")  # of unknown size
    with pytest.raises(SeaAnchorError, match=r"at 64 × 64 pixels[\s\S]*at most 110\.9"):
        check_radius(128, "l2", (3, 64, 64))
    with pytest.raises(SeaAnchorError, match=r"l-inf radius in \[0, 1\][\s\S]*did you mean 4/255"):
        check_radius(4, "linf", (3, 64, 64))
    for epsilon in (-0.1, float("nan"), float("inf")):
        with pytest.raises(SeaAnchorError, match="finite"):
            check_radius(epsilon, "l2", (3, 64, 64))


def test_a_radius_that_is_an_eighth_of_all_room_is_told(caplog):
    check_radius(3.0, "l2", (3, 224, 224))
    assert not caplog.messages
    check_radius(127.5, "l2", (3, 224, 224))  # an own number: a note is logged once in a process
    assert "33% of the distance of black and white" in caplog.text and "did you mean 127.5/255?" in caplog.text
