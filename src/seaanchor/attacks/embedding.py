"""Unsupervised attack: how far the embedding of an image can be pushed from where its clean copy lies, without any
label or text.

Legend: B batch, C channels, H W pixels, D embedding dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from seaanchor.attacks.apgd import apgd
from seaanchor.attacks.ball import Ball, Norm
from seaanchor.attacks.classification import broken, noise_per_image
from seaanchor.attacks.inputs import check_finite, check_gradients, check_images, check_index
from seaanchor.attacks.on_model import Model, check_settings, in_fp32
from seaanchor.functional.distances import cosine, relative_distance, squared_distance
from seaanchor.types import Batch


@dataclass(frozen=True)
class EmbeddingAttackResult:
    """Perturbed images (B, C, H, W); ‖φ(x+δ) − φ(x)‖² / ‖φ(x)‖² and the cosine of φ(x+δ) and φ(x), (B,) each; and whose
    gradient was NaN or infinite at some step (B,)."""

    pixels_BCHW: Tensor
    relative_B: Tensor
    cosine_B: Tensor
    broken_B: Tensor


def embedding_attack(
    encoder: Callable[[Tensor], Tensor], batch: Batch, ball: Ball, *, num_steps: int = 100, seed: int = 0
) -> EmbeddingAttackResult:
    """Raise ‖φ(x+δ) − φ(x)‖² of raw embeddings by APGD, from a random point of the ball's surface: at δ = 0 the
    gradient is zero.

    The start depends on the seed and the image's number, so batch size changes nothing. The squared distance is that of
    FARE and LORE, measured against the clean embedding of the same encoder.

    Args:
        encoder: pixels → raw embeddings (B, D), or tokens (B, T, D), whose distances are averaged for each image.
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
        return squared_distance(embedding_BD, clean_BD[row]), embedding_BD

    start_BCHW = clean_BCHW + ball.spread(noise_per_image(batch.index_B, seed, ball, clean_BCHW))
    found = apgd(loss, clean_BCHW, start_BCHW, ball, num_steps)
    pixels_BCHW = found.pixels_BCHW
    with torch.no_grad():
        attacked_BD = encoder(pixels_BCHW).float()
    relative_B, cosine_B = relative_distance(attacked_BD, clean_BD), cosine(attacked_BD, clean_BD)
    return EmbeddingAttackResult(pixels_BCHW, relative_B, cosine_B, broken(found))


@dataclass(frozen=True)
class EmbeddingAttack:
    """Push the embeddings of images away from where the clean ones lie, by APGD; no labels are needed.

    Args:
        epsilon: radius in pixel units, such as 4/255.
        norm: `linf` or `l2`.
        num_steps: gradient steps.
        seed: of the random starts.
        batch_size: images at once; all by default.

    Raises:
        SeaAnchorError: settings out of range.
    """

    epsilon: float
    norm: Norm = "linf"
    num_steps: int = 100
    seed: int = 0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_settings(self.epsilon, self.norm, self.num_steps, self.batch_size)

    def __call__(self, encoder: Model, images_BCHW: Tensor, index: Tensor | None = None) -> Tensor:
        """Attacked images (B, C, H, W) in fp32; see `attack`."""
        return self.attack(encoder, images_BCHW, index).pixels_BCHW

    def attack(self, encoder: Model, images_BCHW: Tensor, index: Tensor | None = None) -> EmbeddingAttackResult:
        """Attacked images, and how far their embeddings lie from the clean ones.

        Args:
            encoder: pixels in [0, 1] → embeddings (B, D), or tokens (B, T, D).
            images_BCHW: clean images in [0, 1].
            index: each image's number in its data set (B,), which its random start depends on; its place by default.

        Raises:
            SeaAnchorError: bad images, embeddings or gradients.
        """
        check_images(images_BCHW)
        count, ball = len(images_BCHW), Ball(self.norm, self.epsilon)
        results = []
        with in_fp32(encoder, images_BCHW.device, "the encoder") as (encode, device):
            index_B = check_index(index, count, device)
            for rows in torch.arange(count, device=device).split(self.batch_size or max(1, count)):
                pixels_BCHW = images_BCHW[rows.to(images_BCHW.device)].detach().to(device, torch.float32)
                if len(rows):
                    with torch.no_grad():
                        check_finite(encode(pixels_BCHW), "the encoder")
                    batch = Batch(pixels_BCHW, None, index_B[rows])
                    results.append(embedding_attack(encode, batch, ball, num_steps=self.num_steps, seed=self.seed))
        if not results:
            nothing_B = images_BCHW.new_zeros(0, dtype=torch.float32)
            return EmbeddingAttackResult(images_BCHW.float(), nothing_B, nothing_B, nothing_B.bool())
        columns = (
            torch.cat([getattr(result, f.name) for result in results]).to(images_BCHW.device)
            for f in fields(EmbeddingAttackResult)
        )
        result = EmbeddingAttackResult(*columns)
        check_gradients(result.broken_B, "the encoder")
        return result
