"""What an attack leaves in a file: whole levels of 8 bits inside its ball, and the difference to look at.

Legend: B images, C channels, H W pixels.
"""

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.errors import SeaAnchorError

LEVELS = 255
TINY = 1e-4  # of a level: ε · 255 of a fraction such as 4/255 is whole up to rounding


def check_levels(ball: Ball) -> None:
    """Fail where no whole level fits into the ball.

    Raises:
        SeaAnchorError: a radius below 1/255.
    """
    if ball.epsilon * LEVELS < 1 - TINY:
        found = f"ε = {ball.epsilon:.3g}, {ball.epsilon * LEVELS:.3g}/255, for pictures of 8 bits"
        raise SeaAnchorError(found, "at least 1/255: a file holds whole levels", "raise --epsilon")


def to_levels(attacked_BCHW: Tensor, clean_BCHW: Tensor, ball: Ball | None) -> Tensor:
    """Attacked pixels as the whole levels that a file holds.

    Rounding may leave the ball: in l-inf levels are cut off at its border, in l2 the change of such an image is rounded
    towards 0 instead.

    Args:
        attacked_BCHW: in [0, 1], inside the ball around `clean_BCHW`.
        clean_BCHW: in [0, 1], whole levels.
        ball: of the attack; None for any change.

    Returns:
        uint8 (B, C, H, W).
    """
    clean_BCHW = (clean_BCHW * LEVELS).round()
    delta_BCHW = attacked_BCHW * LEVELS - clean_BCHW
    rounded_BCHW = delta_BCHW.round()
    if ball is not None and ball.norm == "linf":
        most = int(ball.epsilon * LEVELS + TINY)
        rounded_BCHW = rounded_BCHW.clamp(-most, most)
    elif ball is not None:
        outside_B = rounded_BCHW.flatten(1).norm(dim=1) > ball.epsilon * LEVELS + TINY
        rounded_BCHW = torch.where(outside_B[:, None, None, None], delta_BCHW.trunc(), rounded_BCHW)
    return (clean_BCHW + rounded_BCHW).clamp(0, LEVELS).to(torch.uint8)


def amplified(levels_BCHW: Tensor, clean_BCHW: Tensor, ball: Ball | None) -> Tensor:
    """The difference as a picture, grey where nothing changed: so strong that the border of an l-inf ball is black or
    white, in l2 the largest change of an image, and any change halved where there is no ball.

    Args:
        levels_BCHW: attacked, uint8.
        clean_BCHW: in [0, 1].
        ball: of the attack; None for any change.

    Returns:
        uint8 (B, C, H, W).
    """
    delta_BCHW = levels_BCHW.to(clean_BCHW) / LEVELS - clean_BCHW
    if ball is None:
        scale = torch.ones_like(delta_BCHW[:, :1, :1, :1])
    elif ball.norm == "linf":
        scale = torch.full_like(delta_BCHW[:, :1, :1, :1], ball.epsilon)
    else:
        scale = delta_BCHW.abs().amax((1, 2, 3), keepdim=True).clamp_min(1 / LEVELS)
    return ((0.5 + delta_BCHW / (2 * scale)).clamp(0, 1) * LEVELS).round().to(torch.uint8)
