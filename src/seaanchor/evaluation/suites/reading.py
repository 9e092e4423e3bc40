"""Whether a classifier reads: class words on plain grounds, where only reading helps.

Legend: B batch, N pictures, C classes, H W pixels.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from seaanchor.attacks.drawing import draw_on, random_drawing
from seaanchor.evaluation.context import EvaluationContext, Suite, Tables
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.suite_results import Reading
from seaanchor.evaluation.typographic_plan import TypographicPlan

Logits = Callable[[Tensor], Tensor]


@torch.no_grad()
def evaluate_reading(
    logits: Logits, class_names: Sequence[str], image_size: int, plan: TypographicPlan, count: int = 400
) -> Reading:
    """Accuracy of naming the class word drawn on a plain or shaded ground: what the model reads, where only reading
    helps."""
    pixels_NCHW, word_N = reading_pictures(class_names, image_size, plan, count)
    answers_N = torch.cat([logits(chunk).argmax(-1).cpu() for chunk in pixels_NCHW.split(100)])
    return Reading(share_of(answers_N == word_N), plan.settings())


def reading_pictures(
    class_names: Sequence[str], image_size: int, plan: TypographicPlan, count: int
) -> tuple[Tensor, Tensor]:
    """`count` pictures (N, 3, H, W) in [0, 1] of class words on plain or shaded grounds, and which word each shows
    (N,)."""
    rng = random.Random(f"{plan.seed} reading")
    words = [rng.choice(plan.attack(class_names).drawable) for _ in range(count)]
    pictures = np.stack([_written(class_names[word], image_size, plan, rng) for word in words])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, torch.tensor(words)


def _written(word: str, size: int, plan: TypographicPlan, rng: random.Random) -> np.ndarray:
    first, second = (np.array([rng.randrange(256) for _ in range(3)], np.float32) for _ in range(2))
    shade = np.linspace(0, rng.choice((0.0, 0.5)), size, dtype=np.float32)[None, :, None]
    ground = np.broadcast_to(first * (1 - shade) + second * shade, (size, size, 3))
    return draw_on(ground, random_drawing(word, size, rng, fonts=plan.fonts, sizes=plan.sizes))


def _summarise(context: EvaluationContext, tables: Tables) -> Reading:
    return evaluate_reading(
        lambda pixels_BCHW: context.logits(pixels_BCHW.to(context.device)),
        context.class_names,
        context.model.encoder.image_size,
        context.protocol.typographic,
    )


SUITE = Suite(_summarise)
