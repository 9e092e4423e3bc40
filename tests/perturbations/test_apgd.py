"""APGD in training."""

import torch

from seaanchor.attacks.ball import Ball
from seaanchor.perturbations.apgd import APGD
from seaanchor.types import Batch


def test_as_a_perturbation_it_raises_the_loss_more_than_its_start(small_classifier, photos):
    def loss(pixels):
        output = small_classifier(pixels)
        return (output - small_classifier(photos.pixels_BCHW)).square().sum(-1), output

    ball = Ball("linf", 4 / 255)
    rng = torch.Generator().manual_seed(0)
    start = Batch(ball.random_start(photos.pixels_BCHW, photos.index_B, rng.manual_seed(0)), None, photos.index_B)
    attacked = APGD(ball, 10)(photos, lambda _: loss, rng.manual_seed(0))
    assert (loss(attacked.pixels_BCHW)[0] >= loss(start.pixels_BCHW)[0]).all()
    assert ball.distance(attacked.pixels_BCHW, photos.pixels_BCHW).max() <= 4 / 255 + 1e-6
