"""A few images under an attack: clean, attacked, the difference, and what the model answers to either.

Legend: B images, C classes, H W pixels.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seaanchor.attacks.classification import Logits
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.data.types import Images
from seaanchor.report.attacked import Attack
from seaanchor.types import Batch

CHUNK, CHUNKS = 4, 3  # images attacked at a time for each one shown, and how often until both kinds are found
ANSWERS = 5


@dataclass(frozen=True)
class Answer:
    """One of the likeliest classes: its name, its probability, and whether it is the `true` class or the `drawn`
    word."""

    name: str
    share: float
    kind: str


@dataclass(frozen=True)
class Picture:
    """One image; the three pictures are PNG data addresses."""

    clean: str
    attacked: str
    difference: str
    true: str
    drawn: str
    still_right: bool
    before: tuple[Answer, ...]
    after: tuple[Answer, ...]


@dataclass(frozen=True)
class _Chunk:
    """What came of a chunk of images, all of them right when clean: batch, labels, attacked pixels, drawn words, logits
    before and after."""

    batch: Batch
    label_B: Tensor
    attacked_BCHW: Tensor
    word_B: Tensor
    before_BC: Tensor
    after_BC: Tensor

    @property
    def still_right(self) -> list[bool]:
        """Which of the images are still classified rightly when attacked."""
        return self.after_BC.argmax(-1).eq(self.label_B).tolist()


def choose_pictures(
    attack: Attack,
    logits: Logits,
    images: Images,
    names: Sequence[str],
    how: Preprocessing,
    count: int,
    device: torch.device,
) -> tuple[Picture, ...]:
    """Images that are right when clean, about half of them fooled and half still right where both were found, in
    the order tried.

    Args:
        attack: what images are shown under.
        logits: the model's, from pixels (B, C, H, W) in [0, 1].
        images: what to choose from, spread over the whole list.
        names: of the classes.
        how: the encoder's preprocessing.
        count: how many at most.
        device: where the model is.
    """
    chunks: list[_Chunk] = []
    for order in _orders(len(images.paths), CHUNK * count, CHUNKS):
        batch = next(batches(ImageDataset(images, how), len(order), workers=0, order=order, skip_log=SkipLog(images)))
        if chunk := _attacked(attack, logits, batch, device):
            chunks.append(chunk)
        right = [answer for chunk in chunks for answer in chunk.still_right]
        if min(sum(right), len(right) - sum(right)) >= count // 2 and len(right) >= count:
            break
    rows = [(chunk, i) for chunk in chunks for i in range(len(chunk.still_right))]
    right = [chunk.still_right[i] for chunk, i in rows]
    return tuple(_picture(*rows[place], attack, names) for place in chosen(right, count))


def _orders(total: int, chunk: int, chunks: int) -> list[list[int]]:
    """Chunks of image numbers, each spread over the whole list, no number twice.

    >>> _orders(10, 2, 3)
    [[0, 5], [1, 6], [3, 8]]
    """
    every = [i * total // (chunk * chunks) for i in range(chunk * chunks)]
    seen: set[int] = set()
    orders = [[i for i in every[k::chunks] if not (i in seen or seen.add(i))] for k in range(chunks)]  # type: ignore[func-returns-value]
    return [order for order in orders if order]


def _attacked(attack: Attack, logits: Logits, batch: Batch, device: torch.device) -> _Chunk | None:
    if len(batch.index_B) == 0 or batch.label_B is None:
        return None
    label_B = batch.label_B.to(device)
    batch = Batch(batch.pixels_BCHW.to(device), label_B, batch.index_B.to(device))
    with torch.no_grad():
        before_BC = logits(batch.pixels_BCHW)
    right = before_BC.argmax(-1).eq(label_B).nonzero().squeeze(1)
    if len(right) == 0:
        return None
    batch = Batch(batch.pixels_BCHW[right], label_B[right], batch.index_B[right])
    attacked_BCHW, word_B = attack.attacked(batch, logits)
    with torch.no_grad():
        return _Chunk(batch, label_B[right], attacked_BCHW, word_B, before_BC[right], logits(attacked_BCHW))


def _picture(chunk: _Chunk, i: int, attack: Attack, names: Sequence[str]) -> Picture:
    label, word = int(chunk.label_B[i]), int(chunk.word_B[i])
    clean_1CHW, attacked_1CHW = chunk.batch.pixels_BCHW[i : i + 1], chunk.attacked_BCHW[i : i + 1]
    clean, attacked, difference = (
        _png(pixels_1CHW[0]) for pixels_1CHW in (clean_1CHW, attacked_1CHW, attack.shown(attacked_1CHW - clean_1CHW))
    )
    before, after = (_answers(scores_BC[i], names, label, word) for scores_BC in (chunk.before_BC, chunk.after_BC))
    return Picture(
        clean, attacked, difference, names[label], names[word] if word >= 0 else "", chunk.still_right[i], before, after
    )


def chosen(still_right: Sequence[bool], count: int) -> list[int]:
    """At most `count` places, half of them still right and half fooled as far as there are both, in order.

    >>> chosen([True, True, True, True, False, True], 4)
    [0, 1, 2, 4]
    """
    fooled, right = ([i for i, answer in enumerate(still_right) if answer is which] for which in (False, True))
    half = min(len(right), max(count // 2, count - len(fooled)))
    return sorted([*right[:half], *fooled[: count - half]])


def _answers(scores_C: Tensor, names: Sequence[str], label: int, word: int) -> tuple[Answer, ...]:
    share_C = scores_C.double().softmax(-1)
    best = share_C.topk(min(ANSWERS, len(names)))
    kinds = {word: "drawn", label: "true"}
    return tuple(
        Answer(names[c], share, kinds.get(c, ""))
        for share, c in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


def _png(pixels_CHW: Tensor) -> str:
    from PIL import Image

    values: Any = (pixels_CHW.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
