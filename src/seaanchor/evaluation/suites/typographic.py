"""How much words drawn on images fool a classifier, and whether it still reads.

Legend: B batch, C classes, H W pixels.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from seaanchor.attacks.drawing import draw_on, random_drawing
from seaanchor.evaluation.statistics import proportion
from seaanchor.perturbations.typographic import Typographic
from seaanchor.types import Batch

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TypographicPlan:
    """What is drawn in evaluation.

    Attributes:
        words: class names that may be drawn, as in `Typographic`.
        fonts: which shipped fonts; `unseen` are in no training.
        sizes: glyph height as a share of the image's side.
        seed: of word, font, size, place and colours.
    """

    words: str = "all"
    fonts: str = "unseen"
    sizes: tuple[float, float] = (20 / 224, 40 / 224)
    seed: int = 0

    def attack(self, class_names: Sequence[str]) -> Typographic:
        """The perturbation this plan describes, one drawing an image."""
        return Typographic(class_names, self.words, self.fonts, self.sizes, variants=1, seed=self.seed)  # type: ignore[arg-type]


@torch.no_grad()
def evaluate_typographic(
    logits: Logits, stream: Iterable[Batch], class_names: Sequence[str], plan: TypographicPlan
) -> dict:
    """Accuracy on clean images (O), with a wrong class word drawn (T), and how often the drawn word wins.

    Returns:
        Shares with 95 % intervals: `clean`, `attacked`, `attack_word`, `two_way` (object above drawn word, whatever
        else wins) and `unreadable` (the same box and colours with unreadable glyphs: the ceiling of any cure). Images
        that carry their word already, `label=X_text=Y` files, give the middle three.
    """
    hits: dict[str, list[bool]] = {}
    for batch in stream:
        if batch.label_B is None or len(batch.index_B) == 0:
            continue
        for name, hit_B in typographic_hits(logits, batch, class_names, plan).items():
            hits.setdefault(name, []).extend(hit_B.tolist())
    return {name: proportion(hit) for name, hit in hits.items()} | {"plan": asdict(plan)}


@torch.no_grad()
def typographic_hits(
    logits: Logits, batch: Batch, class_names: Sequence[str], plan: TypographicPlan
) -> dict[str, Tensor]:
    """What `evaluate_typographic` counts, for each image of a batch (B,)."""
    return _lettered(logits, batch) if batch.preference is not None else _drawn(logits, batch, plan.attack(class_names))


def _drawn(logits: Logits, batch: Batch, attack: Typographic) -> dict[str, Tensor]:
    """Clean images, a wrong word drawn on each, and an unreadable cover of the same box."""
    label_B = _labels(batch)
    drawn = [
        attack.draw(i, y, 0, batch.pixels_BCHW.shape[-1])
        for i, y in zip(batch.index_B.tolist(), label_B.tolist(), strict=True)
    ]
    word_B = torch.tensor([word for word, _ in drawn], device=label_B.device)
    covers = [
        attack.unreadable(i, 0, lettering) for i, (_, lettering) in zip(batch.index_B.tolist(), drawn, strict=True)
    ]
    attacked_BC = logits(attack.overlay(batch.pixels_BCHW, [lettering for _, lettering in drawn]))
    covered_B = logits(attack.overlay(batch.pixels_BCHW, covers)).argmax(-1)
    clean_B = logits(batch.pixels_BCHW).argmax(-1) == label_B
    return {"clean": clean_B} | _against(attacked_BC, label_B, word_B) | {"unreadable": covered_B == label_B}


def _lettered(logits: Logits, batch: Batch) -> dict[str, Tensor]:
    """Images that carry their word already, as RTA-100, PAINT and SCAM do: there is no clean copy to look at."""
    if batch.preference is None:
        raise ValueError("lettered images come with the pair of label and drawn word")
    return _against(logits(batch.pixels_BCHW), _labels(batch), batch.preference.rejected_B)


def _against(attacked_BC: Tensor, label_B: Tensor, word_B: Tensor) -> dict[str, Tensor]:
    answer_B = attacked_BC.argmax(-1)
    wins_B = (attacked_BC.gather(1, label_B[:, None]) > attacked_BC.gather(1, word_B[:, None])).squeeze(1)
    return {"attacked": answer_B == label_B, "attack_word": answer_B == word_B, "two_way": wins_B}


def _labels(batch: Batch) -> Tensor:
    if batch.label_B is None:
        raise ValueError("typographic evaluation needs labels")
    return batch.label_B


@torch.no_grad()
def evaluate_reading(
    logits: Logits, class_names: Sequence[str], image_size: int, plan: TypographicPlan, count: int = 400
) -> dict:
    """Accuracy of naming the class word drawn on a plain or shaded ground: what the model reads, where only reading
    helps."""
    pixels_NCHW, word_N = reading_pictures(class_names, image_size, plan, count)
    answers_N = torch.cat([logits(chunk).argmax(-1).cpu() for chunk in pixels_NCHW.split(100)])
    return {"reading": proportion(answers_N == word_N), "plan": asdict(plan)}


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
