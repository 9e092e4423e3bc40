"""APGD on the cross-entropy of an image's pixels, for segmentation.

Legend: B batch, C channels or classes, H W pixels, M images and P pixels of a batch.
"""

import torch
from torch import Tensor

from seaanchor.attacks.apgd import apgd
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits, noise_per_image
from seaanchor.functional.cross_entropy import attack_cross_entropy
from seaanchor.types import Batch


def pixel_loss(logits_BCHW: Tensor, mask_BHW: Tensor, ignore_index: int) -> Tensor:
    """Mean cross-entropy (B,) over the pixels of each image that have a class; 0 where none has. As in
    `attack_cross_entropy`, a pixel that is answered with certainty keeps a gradient."""
    known_BHW = mask_BHW != ignore_index
    logits_PC = logits_BCHW.movedim(1, -1).flatten(0, 2)
    label_P = mask_BHW.where(known_BHW, 0).flatten()
    loss_P = attack_cross_entropy(logits_PC, label_P, torch.ones_like(logits_PC[:, 0]))
    loss_BHW = loss_P.view(mask_BHW.shape).where(known_BHW, 0.0)
    return loss_BHW.sum((1, 2)) / known_BHW.sum((1, 2)).clamp(min=1)


def pixel_attack(
    logits: Logits,
    batch: Batch,
    mask_BHW: Tensor,
    ball: Ball,
    *,
    ignore_index: int = 255,
    num_steps: int = 100,
    seed: int = 0,
) -> Tensor:
    """The images (B, C, H, W) of the highest `pixel_loss` that APGD meets, from a random point of the ball's surface.

    The start depends on the seed and the image's number, so batch size changes nothing.

    Args:
        logits: pixels → (B, classes, H, W) at the size of the masks.
        batch: clean images; their labels are not looked at.
        mask_BHW: class numbers, `ignore_index` where there is none.
        ball: norm and radius.
        ignore_index: what stands for no class.
        num_steps: gradient steps.
        seed: of the random starts.

    Source: Croce & Hein 2020, algorithm 1, with the loss of a segmentation model.
    """
    clean_BCHW = batch.pixels_BCHW

    def loss(pixels_MCHW: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        output = logits(pixels_MCHW)
        return pixel_loss(output, mask_BHW[row], ignore_index), output

    start_BCHW = clean_BCHW + ball.spread(noise_per_image(batch.index_B, seed, ball, clean_BCHW))
    return apgd(loss, clean_BCHW, start_BCHW, ball, num_steps).pixels_BCHW


@torch.no_grad()
def higher(one_B: Tensor, other_B: Tensor, pixels_BCHW: Tensor, others_BCHW: Tensor) -> Tensor:
    """Of two versions of each image that of the higher loss, the first where they are equal."""
    return torch.where((one_B >= other_B).view(-1, 1, 1, 1), pixels_BCHW, others_BCHW)
