"""A few images under an attack, the same for every model: clean, attacked, and what each model answers to either.

Legend: B images, C classes, H W pixels.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.types import Images
from seaanchor.report.attacked import Attack
from seaanchor.report.gallery_models import Member
from seaanchor.types import Batch

CHUNK, CHUNKS = 4, 3  # images attacked at a time for each one shown, and how often until both kinds are found
ANSWERS = 3


@dataclass(frozen=True)
class Answer:
    """One of the likeliest classes: its name, its probability, and whether it is the `true` class or the `drawn`
    word."""

    name: str
    share: float
    kind: str


@dataclass(frozen=True)
class View:
    """An image as one model sees it: attacked, what the attack changed, and the model's likeliest answers before and
    after. Both pictures are PNG data addresses."""

    attacked: str
    difference: str
    right_before: bool
    still_right: bool
    before: tuple[Answer, ...]
    after: tuple[Answer, ...]


@dataclass(frozen=True)
class Picture:
    """One image: its clean picture, its class, the word drawn on it if there is one, and a view for each model."""

    clean: str
    true: str
    drawn: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class _Seen:
    """What one model makes of a chunk of images: batch, attacked pixels, drawn words, logits before and after."""

    batch: Batch
    attacked_BCHW: Tensor
    word_B: Tensor
    before_BC: Tensor
    after_BC: Tensor

    @property
    def still_right(self) -> list[bool]:
        """Which of the images are classified rightly when attacked."""
        return self.after_BC.argmax(-1).eq(self.batch.label_B).tolist()  # type: ignore[arg-type] # labelled


def choose_pictures(
    attack: Attack, members: Sequence[Member], images: Images, names: Sequence[str], count: int, device: torch.device
) -> tuple[Picture, ...]:
    """Images that the first model is right on when clean, about half of them fooling the first trained model and half
    not where both were found, in the order tried.

    Args:
        attack: what images are shown under; it acts on each model by itself.
        members: the models, untouched ones first.
        images: what to choose from, spread over the whole list.
        names: of the classes.
        count: how many at most.
        device: where the models are.
    """
    judge = next(i for i, member in enumerate(members) if member.number is not None)
    chunks: list[list[_Seen]] = []
    for order in _orders(len(images.paths), CHUNK * count, CHUNKS):
        if kept := _right(members[0], images, order, device):
            chunks.append([_seen(attack, member, images, kept, device) for member in members])
        right = [answer for chunk in chunks for answer in chunk[judge].still_right]
        if min(sum(right), len(right) - sum(right)) >= count // 2 and len(right) >= count:
            break
    rows = [(chunk, i) for chunk in chunks for i in range(len(chunk[0].still_right))]
    right = [chunk[judge].still_right[i] for chunk, i in rows]
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


def _loaded(member: Member, images: Images, order: Sequence[int], device: torch.device) -> Batch:
    """Those of the images that can be read, as a model sees them."""
    dataset, skipped = ImageDataset(images, member.how), SkipLog(images)
    batch = next(batches(dataset, len(order), workers=0, order=list(order), skip_log=skipped))
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    return Batch(batch.pixels_BCHW.to(device), label_B, batch.index_B.to(device))


def _right(member: Member, images: Images, order: Sequence[int], device: torch.device) -> list[int]:
    """The numbers of the images that a model is right on."""
    batch = _loaded(member, images, order, device)
    if len(batch.index_B) == 0 or batch.label_B is None:
        return []
    with torch.no_grad():
        return batch.index_B[member.logits(batch.pixels_BCHW).argmax(-1).eq(batch.label_B)].tolist()


def _seen(attack: Attack, member: Member, images: Images, order: Sequence[int], device: torch.device) -> _Seen:
    batch = _loaded(member, images, order, device)
    attacked_BCHW, word_B = attack.attacked(batch, member.logits)
    with torch.no_grad():
        return _Seen(batch, attacked_BCHW, word_B, member.logits(batch.pixels_BCHW), member.logits(attacked_BCHW))


def _picture(chunk: Sequence[_Seen], i: int, attack: Attack, names: Sequence[str]) -> Picture:
    """One image of a chunk, as every model sees it."""
    first = chunk[0]
    label, word = int(first.batch.label_B[i]), int(first.word_B[i])  # type: ignore[index] # labelled
    views = tuple(_view(seen, i, attack, names) for seen in chunk)
    return Picture(_png(first.batch.pixels_BCHW[i]), names[label], names[word] if word >= 0 else "", views)


def _view(seen: _Seen, i: int, attack: Attack, names: Sequence[str]) -> View:
    label, word = int(seen.batch.label_B[i]), int(seen.word_B[i])  # type: ignore[index] # labelled
    clean_1CHW, attacked_1CHW = seen.batch.pixels_BCHW[i : i + 1], seen.attacked_BCHW[i : i + 1]
    attacked, changed = (
        _png(pixels_1CHW[0]) for pixels_1CHW in (attacked_1CHW, attack.shown(attacked_1CHW - clean_1CHW))
    )
    right_before, still_right = (int(scores_BC[i].argmax()) == label for scores_BC in (seen.before_BC, seen.after_BC))
    before, after = (_answers(scores_BC[i], names, label, word) for scores_BC in (seen.before_BC, seen.after_BC))
    return View(attacked, changed, right_before, still_right, before, after)


def chosen(still_right: Sequence[bool], count: int) -> list[int]:
    """At most `count` places in order, half of them still right and half fooled as far as there are both, each half
    spread over all.

    >>> chosen([True, True, True, True, False, True], 4)
    [0, 2, 4, 5]
    """
    fooled, right = ([i for i, answer in enumerate(still_right) if answer is which] for which in (False, True))
    half = min(len(right), max(count // 2, count - len(fooled)))
    return sorted([*_spread(right, half), *_spread(fooled, min(len(fooled), count - half))])


def _spread(places: Sequence[int], count: int) -> list[int]:
    """`count` of them, the first and the last among them where there are two or more."""
    step = (len(places) - 1) / max(count - 1, 1)
    return [places[round(number * step)] for number in range(count)]


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
