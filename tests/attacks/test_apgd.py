"""APGD's schedule and its edges."""

import torch

from seaanchor.attacks.apgd import apgd, checkpoints
from seaanchor.attacks.ball import Ball


def test_checkpoints_for_100_steps_are_the_papers():
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)


def test_empty_batch():
    empty = torch.zeros(0, 3, 4, 4)
    result = apgd(lambda p, row: (p.sum((1, 2, 3)), p), empty, empty, Ball("linf", 0.1), 3)
    assert len(result.fooled_B) == 0
