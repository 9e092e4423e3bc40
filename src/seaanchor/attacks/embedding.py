"""Unsupervised attack: how far the embedding of an image can be pushed from where its clean copy lies, without any
label or text.

Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.attacks.apgd import apgd
from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import noise_per_image
from seaanchor.types import Batch


@dataclass(frozen=True)
class EmbeddingAttack:
    """Perturbed images (B, C, H, W); ‖φ(x+δ) − φ(x)‖² / ‖φ(x)‖² and the cosine of φ(x+δ) and φ(x), (B,) each."""

    pixels_BCHW: Tensor
    relative_B: Tensor
    cosine_B: Tensor


def embedding_attack(
    encoder: Callable[[Tensor], Tensor], batch: Batch, ball: Ball, *, num_steps: int = 100, seed: int = 0
) -> EmbeddingAttack:
    """Raise ‖φ(x+δ) − φ(x)‖² of raw embeddings by APGD, from a random point of the ball's surface: at δ = 0 the
    gradient is zero.

    The start depends on the seed and the image's number, so batch size changes nothing. The squared distance is that of
    FARE and LORE, measured against the clean embedding of the same encoder.

    Args:
        encoder: pixels → raw embeddings (B, D).
        batch: clean images; labels are not looked at.
        ball: norm and radius.
        num_steps: gradient steps.
        seed: of the random starts.

    Source: FARE (Schlarmann et al. 2024) eq. 3; APGD: Croce & Hein 2020.
    """
    clean_BCHW = batch.pixels_BCHW
    with torch.no_grad():
        clean_BD = encoder(clean_BCHW).float()

    def loss(pixels_BCHW: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        embedding_BD = encoder(pixels_BCHW).float()
        return (embedding_BD - clean_BD[row]).square().sum(-1), embedding_BD

    start_BCHW = clean_BCHW + ball.spread(noise_per_image(batch.index_B, seed, ball, clean_BCHW))
    pixels_BCHW = apgd(loss, clean_BCHW, start_BCHW, ball, num_steps).pixels_BCHW
    with torch.no_grad():
        attacked_BD = encoder(pixels_BCHW).float()
    relative_B = (attacked_BD - clean_BD).square().sum(-1) / clean_BD.square().sum(-1)
    return EmbeddingAttack(pixels_BCHW, relative_B, F.cosine_similarity(attacked_BD, clean_BD, dim=-1))
