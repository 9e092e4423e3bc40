"""A few images of a run under its own attack: clean, attacked, the difference, and what the model answers to either.

Legend: B images, C classes, H W pixels.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seaanchor.attacks.classification import Logits
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import Images, LabelledImages, texts_of
from seaanchor.encoders.embedded import embedded_models
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.fingerprint import fingerprint
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.functional.gradients import frozen
from seaanchor.report.attacked import Attack, drawn_words, gradient_attack
from seaanchor.report.measures import count
from seaanchor.report.sources import Entry
from seaanchor.types import Batch, Head
from seaanchor.utils.paths import expanded, portable

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
class Gallery:
    """Images of one model, or a note that says why there are none."""

    label: str
    attack: str
    dataset: str
    difference: str
    side: int
    pictures: tuple[Picture, ...]
    note: str = ""


def gallery(entry: Entry, count: int, device: str | None = None) -> Gallery | None:
    """The images of a model under the attack it was trained against, else one it was evaluated under; None where it was
    evaluated under none.

    Args:
        entry: the model, with its results and run.
        count: images to show.
        device: cpu, cuda, ...; the accelerator if there is one.
    """
    chosen = _choose(entry)
    if chosen is None:
        return None
    result, drawn = chosen
    try:
        return _gallery(entry, result, drawn, count, device)
    except (SeaAnchorError, OSError) as error:
        found = error.found if isinstance(error, SeaAnchorError) else str(error)
        return Gallery(entry.label, "", result.dataset, "", 0, (), f"No images: {portable(found)}.")


def _choose(entry: Entry) -> tuple[EvaluationResult, bool] | None:
    """A result under the run's own kind of attack, and whether that is drawn words."""
    results = [file.result for file in entry.results]
    drawn = [r for r in results if r.suites.typographic and r.suites.typographic.unreadable]
    gradient = [r for r in results if any(row.epsilon > 0 for row in r.robust.rows)]
    ways = [(drawn, True), (gradient, False)]
    on_words = entry.run is not None and entry.run.settings.perturbation.kind == "typographic"
    for found, words in ways if on_words else ways[::-1]:
        if found:
            return max(found, key=lambda result: count(result) or 0), words
    return None


def _gallery(entry: Entry, result: EvaluationResult, drawn: bool, count: int, device: str | None) -> Gallery:
    protocol = result.protocol
    model, images, names = _model(entry, result), _images(result), protocol.class_names
    if not isinstance(images, LabelledImages) or len(images.class_names) != len(names):
        raise SeaAnchorError(
            f"{result.dataset} is not what was evaluated: {len(texts_of(images))} classes instead of {len(names)}",
            "",
            "",
        )
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    head = build_head(model, names, protocol.templates)
    encoder, on_place = model.encoder.to(place).eval(), Head(head.weight_CD.to(place), head.logit_scale)

    def logits(pixels_BCHW: Tensor) -> Tensor:
        return on_place(encoder(pixels_BCHW).float())

    attack = drawn_words(names, result) if drawn else gradient_attack(entry, result, len(names))
    with frozen(encoder):
        pictures = _pictures(attack, logits, images, names, encoder.image_size, count, place)
    note = "" if pictures else "None of the images tried is classified rightly to begin with."
    return Gallery(entry.label, attack.name, result.dataset, attack.difference, encoder.image_size, pictures, note)


def _model(entry: Entry, result: EvaluationResult) -> LoadedModel:
    """The model of a result: in its run's folder, which may have moved, or where the result says.

    Raises:
        SeaAnchorError: it is gone, or is another one by now.
    """
    name = result.model
    prefix = next((p for p in ("timm:local-dir:", "timm:", "hf:", "local-dir:") if name.startswith(p)), "")
    place = Path(expanded(name.removeprefix(prefix)))
    if entry.run is not None:
        place = entry.run.folder / place.name
    if not place.is_dir() and name not in embedded_models():
        raise SeaAnchorError(f"the model {portable(str(place))} is gone", "", "")
    protocol = result.protocol
    model = load_model(name if name in embedded_models() else f"{prefix}{place}", None, protocol.image_size)
    if fingerprint(model.encoder) != protocol.weights:
        raise SeaAnchorError(f"the model in {portable(str(place))} has changed since it was evaluated", "", "")
    return model


def _images(result: EvaluationResult) -> Images:
    protocol = result.protocol
    images = open_images(expanded(result.dataset), split="test")
    return images if protocol.samples is None else subset(images, protocol.samples, protocol.seed or 0)


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


def _pictures(
    attack: Attack, logits: Logits, images: Images, names: Sequence[str], size: int, count: int, device: torch.device
) -> tuple[Picture, ...]:
    """Images that are right when clean, about half of them fooled and half still right where both were found, in
    the order tried."""
    chunks: list[_Chunk] = []
    for order in _orders(len(images.paths), CHUNK * count, CHUNKS):
        batch = next(batches(ImageDataset(images, size), len(order), workers=0, order=order, skip_log=SkipLog(images)))
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
