"""Attacked images as files, with what a model answers before and after: what `seaanchor attack` writes.

Answers are those to the files: each is read again as the model reads any picture. Legend: B images, C channels or
classes, H W pixels.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.classification import Logits
from seaanchor.data.images import UnreadableImage, name_below, read_image
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.preprocessing import Preprocessing
from seaanchor.data.types import Images, labels_of
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacked_pixels import amplified, to_levels
from seaanchor.evaluation.attacked_rows import FILE, Journal
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json
from seaanchor.utils.stages import stage, tick

Attack = Callable[[Logits, Tensor, Tensor, Tensor], tuple[Tensor, Sequence[int] | None]]
"""(logits, clean pixels, labels, image numbers) → attacked pixels, and the classes of words drawn on them."""
ATTACKED, DIFFERENCE = "attacked", "difference"


@dataclass(frozen=True)
class Victim:
    """The model under attack.

    Attributes:
        logits: pixels (B, C, H, W) in [0, 1] → logits (B, C).
        names: of its C classes.
        how: its preprocessing.
        device: where it runs.
    """

    logits: Logits
    names: Sequence[str]
    how: Preprocessing
    device: torch.device


def write_attacked(
    images: Images,
    victim: Victim,
    attack: Attack,
    ball: Ball | None,
    output: Path,
    settings: Mapping[str, Any],
    batch_size: int = 50,
) -> dict[str, Any]:
    """Attack every image, and write `attacked/CLASS/N_NAME.png`, `difference/CLASS/N_NAME.png` and `answers.json`. What
    was interrupted goes on; an image depends on its number and the settings alone.

    Args:
        images: with labels, numbers of `victim.names`, or without: then the model's own answer is what an attack leads
            away from.
        victim: the model.
        attack: what is done to the images.
        ball: of the attack; None for a word.
        output: folder: new, empty, or of the same settings.
        settings: what decides the result, as JSON values.
        batch_size: images at once.

    Returns:
        What `answers.json` holds: `settings`, `summary`, `skipped` and a row for each image.

    Raises:
        SeaAnchorError: a folder in use or of other settings, no image that can be read, or a full disk.
    """
    journal = Journal(output, json.loads(to_json(settings)))
    if journal.finished is not None:
        return journal.finished
    skip_log, left = SkipLog(images), [i for i in range(len(images.paths)) if i not in journal.rows]
    with stage("attack", len(left), "images"):
        for order in (left[i : i + batch_size] for i in range(0, len(left), batch_size)):
            dataset = ImageDataset(images, victim.how)
            (batch,) = batches(dataset, len(order), workers=0, order=order, skip_log=skip_log)
            if len(batch.index_B):
                journal.add(_attacked(images, victim, attack, ball, output, batch.pixels_BCHW, batch.index_B))
            tick("images", len(order))
    rows = [journal.rows[i] for i in sorted(journal.rows)]
    if not rows:
        raise SeaAnchorError(
            f"no image in {images.root} could be read", "images", f"check them: {skip_log.summary()[:300]}"
        )
    return journal.finish({"summary": summary(rows), "skipped": skip_log.summary(), "images": rows})


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Numbers of images: all, those with the right answer before and after, and of the latter those that were fooled:
    by the attacked pixels and no longer after rounding, or still after it and no longer by what the model reads."""
    saved = [row for row in rows if row["right_after"]]
    return {
        "images": len(rows),
        "right_before": sum(row["right_before"] for row in rows),
        "right_after": len(saved),
        "undone_by_rounding": sum(row["fooled_before_rounding"] and not row["fooled_after_rounding"] for row in saved),
        "undone_by_preprocessing": sum(row["fooled_after_rounding"] for row in saved),
        "read_differently": sum(row["read_differently"] for row in rows),
    }


def _attacked(
    images: Images, victim: Victim, attack: Attack, ball: Ball | None, output: Path, pixels: Tensor, index_B: Tensor
) -> list[dict[str, Any]]:
    """Files and rows of some images."""
    clean_BCHW = (pixels.to(victim.device) * 255).round() / 255  # of files it is whole levels already
    before_BC, known = _judge(victim, clean_BCHW), labels_of(images)
    answer_B = before_BC.argmax(-1)
    label_B = answer_B if known is None else torch.tensor([known[i] for i in index_B.tolist()], device=victim.device)
    attacked_BCHW, words = attack(victim.logits, clean_BCHW, label_B, index_B.to(victim.device))
    levels_BCHW = to_levels(attacked_BCHW, clean_BCHW, ball)
    fooled_B, fooled_8_bits_B = (
        (answer_B == label_B) & (_judge(victim, pixels_BCHW).argmax(-1) != label_B)
        for pixels_BCHW in (attacked_BCHW, levels_BCHW.float() / 255)
    )
    difference_BCHW = amplified(levels_BCHW, clean_BCHW, ball)
    names = [_name(images, i, victim.names[y]) for i, y in zip(index_B.tolist(), label_B.tolist(), strict=True)]
    for row, name in enumerate(names):
        _save(levels_BCHW[row], output / ATTACKED / name)
        _save(difference_BCHW[row], output / DIFFERENCE / name)
    read_BCHW = torch.stack([_read_again(output / ATTACKED / name, victim.how) for name in names]).to(victim.device)
    after_BC = _judge(victim, read_BCHW.float() / 255)
    change_B = (levels_BCHW.float() - clean_BCHW * 255).abs().amax((1, 2, 3))
    rows = []
    for row, (number, name) in enumerate(zip(index_B.tolist(), names, strict=True)):
        before, after = (_answer(scores_BC[row], victim.names) for scores_BC in (before_BC, after_BC))
        label = victim.names[int(label_B[row])]
        rows.append(
            {
                "number": number,
                "source": name_below(images.paths[number], images.root),
                "file": f"{ATTACKED}/{name}",
                "difference": f"{DIFFERENCE}/{name}",
                "label": label if known is not None else None,
                "word": None if words is None else victim.names[words[row]],
                "before": asdict(before),
                "after": asdict(after),
                "right_before": before.name == label,
                "right_after": after.name == label,
                "fooled_before_rounding": bool(fooled_B[row]),
                "fooled_after_rounding": bool(fooled_8_bits_B[row]),
                "read_differently": not torch.equal(read_BCHW[row], levels_BCHW[row]),
                "largest_change": round(change_B[row].item()),
            }
        )
    return rows


@dataclass(frozen=True)
class _Answer:
    """The likeliest class and its share of the softmax."""

    name: str
    share: float


def _answer(logits_C: Tensor, names: Sequence[str]) -> _Answer:
    best = logits_C.double().softmax(-1).max(-1)
    return _Answer(names[int(best.indices)], round(best.values.item(), 6))


@torch.no_grad()
def _judge(victim: Victim, pixels_BCHW: Tensor) -> Tensor:
    return victim.logits(pixels_BCHW)


def _name(images: Images, number: int, label: str) -> str:
    """Of the class folder and the file; without classes there is no folder."""
    stem = Path(str(images.paths[number])).stem[:80]
    file = f"{number:06d}_{''.join(c if c.isalnum() or c in '-_.' else '_' for c in stem)}.png"
    return file if labels_of(images) is None else f"{label}/{file}"


def _save(levels_CHW: Tensor, file: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(levels_CHW.permute(1, 2, 0).cpu().numpy()).save(buffer, "PNG")
    write_atomic(file, buffer.getvalue())


def _read_again(file: Path, how: Preprocessing) -> Tensor:
    try:
        return read_image(file, how)
    except UnreadableImage as error:
        raise SeaAnchorError(
            f"{file} could not be read again: {error}", "a disk that keeps what is written", f"remove {FILE} and repeat"
        ) from error
