"""What of an attack a file of 8 bits holds."""

import pytest
import torch

from seaanchor.attacks.ball import Ball
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacked_pixels import amplified, check_levels, to_levels


def around(levels, *changes):
    """A grey image of 4 pixels at one level, and the same with changes in levels."""
    clean = torch.full((1, 1, 2, 2), levels / 255)
    return clean, clean + torch.tensor(changes).view(1, 1, 2, 2) / 255


@pytest.mark.parametrize(
    ("ball", "changes", "expected"),
    [
        (Ball("linf", 4 / 255), (4.0, -4.0, 0.4, 1.6), (4, -4, 0, 2)),
        (Ball("linf", 2.7 / 255), (2.7, -2.7, 2.4, 0.0), (2, -2, 2, 0)),  # 3 would lie outside
        (Ball("l2", 3 / 255), (1.6, 1.6, 1.6, 0.4), (1, 1, 1, 0)),  # (2, 2, 2, 0) has length 3.46
        (Ball("l2", 4 / 255), (1.6, 1.6, 1.6, 0.4), (2, 2, 2, 0)),
        (None, (100.0, -50.0, 0.6, 0.0), (100, -50, 1, 0)),
    ],
)
def test_levels_are_the_nearest_whole_ones_inside_the_ball(ball, changes, expected):
    clean, attacked = around(100, *changes)
    assert (to_levels(attacked, clean, ball).flatten().int() - 100).tolist() == list(expected)


def test_a_random_change_of_any_size_stays_inside():
    rng = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (8, 3, 5, 5), generator=rng) / 255
    for ball in (Ball("linf", 1.5 / 255), Ball("linf", 8 / 255), Ball("l2", 0.05), Ball("l2", 0.5)):
        raw = torch.randn(clean.shape, generator=rng)
        attacked = ball.project(clean + raw, clean)
        delta = to_levels(attacked, clean, ball).double() / 255 - clean.double()
        length = delta.abs().flatten(1).amax(1) if ball.norm == "linf" else delta.flatten(1).norm(dim=1)
        assert (length <= ball.epsilon + 1e-6).all() and length.max() > ball.epsilon / 2


def test_the_difference_is_grey_where_nothing_changed_and_white_at_the_border():
    clean, attacked = around(100, 4.0, -4.0, 0.0, 2.0)
    levels = to_levels(attacked, clean, Ball("linf", 4 / 255))
    assert amplified(levels, clean, Ball("linf", 4 / 255)).flatten().tolist() == [255, 0, 128, 191]
    assert amplified(levels, clean, Ball("l2", 1.0)).flatten().tolist() == [255, 0, 128, 191]
    assert amplified(levels, clean, None).flatten().tolist() == [130, 126, 128, 128]  # halved


def test_a_radius_below_one_level_is_refused():
    check_levels(Ball("linf", 1 / 255))
    with pytest.raises(SeaAnchorError, match=r"0\.5/255"):
        check_levels(Ball("linf", 0.5 / 255))
