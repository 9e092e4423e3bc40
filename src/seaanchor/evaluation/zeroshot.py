"""Zero-shot accuracy, clean and under attack, image by image and streaming.

Legend: B batch, N images, C channels or classes, H W pixels, D embedding dimension.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.attacks.classification import Classifier, Logits, Precision
from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import LabelledImages, UnlabelledImages
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.frozen_copies import folded, in_precision
from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan, attack_all, fallback
from seaanchor.evaluation.table import Table
from seaanchor.functional.gradients import linked
from seaanchor.types import Batch, Head


@dataclass(frozen=True)
class Outcomes:
    """Which images were classified correctly: clean (N,), among the five likeliest classes (N,), and per attack and
    radius (N,), with each image's number, label, and the classifier's confidence in its answer; and whose attacked
    versions were legal (N,)."""

    index_N: Tensor
    label_N: Tensor
    clean_N: Tensor
    top5_N: Tensor
    confidence_N: Tensor
    attacked: dict[tuple[AttackPlan, float], Tensor]
    sound: dict[tuple[AttackPlan, float], Tensor]


def accuracy_rows(logits: Logits, batch: Batch, logits_BC: Tensor, plans: Sequence[AttackPlan]) -> Table:
    """Classify and attack a labelled batch whose clean logits are known; one row an image, to be read by `outcomes`.

    Raises:
        SeaAnchorError: images without labels.
    """
    if batch.label_B is None:
        raise SeaAnchorError(
            "images without labels", "labelled images: one folder a class", "sort the images into class folders"
        )
    correct_B = logits_BC.argmax(-1) == batch.label_B
    top5_B = (logits_BC.topk(min(5, logits_BC.shape[-1])).indices == batch.label_B[:, None]).any(-1)
    rows = {"label": batch.label_B, "clean": correct_B, "top5": top5_B, "confidence": logits_BC.softmax(-1).amax(-1)}
    for (plan, epsilon), survival in attack_all(logits, batch, correct_B, plans).items():
        rows[_column(plan, epsilon, "correct")], rows[_column(plan, epsilon, "sound")] = (
            survival.correct_B,
            survival.sound_B,
        )
    return rows


@torch.no_grad()
def correct(logits: Logits, pixels_BCHW: Tensor, batch: Batch) -> Tensor:
    """Which images (B,) of a labelled batch are classified correctly when they look like `pixels_BCHW`."""
    if batch.label_B is None:
        raise ValueError("accuracy needs labels")
    return logits(pixels_BCHW).argmax(-1) == batch.label_B


def outcomes(table: Table, plans: Sequence[AttackPlan]) -> Outcomes:
    """The columns of `accuracy_rows` by name."""
    keys = [(plan, epsilon) for plan in plans for epsilon in sorted(plan.epsilons)]
    attacked, sound = ({key: table[_column(*key, what)] for key in keys} for what in ("correct", "sound"))
    return Outcomes(table["index"], table["label"], table["clean"], table["top5"], table["confidence"], attacked, sound)


def _column(plan: AttackPlan, epsilon: float, what: str) -> str:
    low = "" if plan.precision == "fp32" else f" {plan.precision}"
    return f"{plan.name} {plan.norm} {plan.num_steps} {plan.seed}{low} {epsilon!r} {what}"


def evaluate_stream(logits: Logits, stream: Iterable[Batch], plans: Sequence[AttackPlan]) -> Outcomes:
    """Classify and attack a stream of labelled batches; only one batch is in memory at a time.

    Raises:
        SeaAnchorError: no image could be read.
    """
    rows = []
    for batch in stream:
        if len(batch.index_B) == 0 or batch.label_B is None:
            continue
        with torch.no_grad():
            logits_BC = logits(batch.pixels_BCHW)
        rows.append(accuracy_rows(logits, batch, logits_BC, plans) | {"index": batch.index_B})
    if not rows:
        raise SeaAnchorError(
            "no labelled image could be read", "at least one readable image in a class folder", "check the folder"
        )
    return outcomes({column: torch.cat([row[column] for row in rows]) for column in rows[0]}, plans)


def classifier(model: LoadedModel, head: Head, device: torch.device, precision: Precision = "fp32") -> Classifier:
    """Pixels → logits of the zero-shot classifier, by a frozen tower that an attack can ask fast: batch normalisation
    is folded into convolutions.

    Args:
        model, head: tower and class embeddings; the tower is put on the device, in eval mode.
        device: where they run.
        precision: with `bf16`, logits of that precision are there as well, whose gradients an attack may follow. fp32
            judges.
    """
    head = head.to(device)
    encoder = folded(model.encoder.to(device).eval())
    embed_low = None if precision == "fp32" else in_precision(encoder, torch.bfloat16)
    tokens = num_tokens(encoder)

    def logits(pixels_BCHW: Tensor) -> Tensor:
        with fast_kernels(encoder, torch.float32, tokens):
            return head(linked(encoder(pixels_BCHW), pixels_BCHW).float())

    def low(pixels_BCHW: Tensor) -> Tensor:
        assert embed_low is not None
        return head(linked(embed_low(pixels_BCHW), pixels_BCHW))

    return Classifier(logits, None if embed_low is None else low)


def labelled(source: str, class_names: Path | None, samples: int | None, seed: int) -> LabelledImages:
    """The labelled images of a source, at most `samples` of them.

    Raises:
        SeaAnchorError: there are no class folders, or fewer than one sample is asked for.
    """
    images = open_images(source, class_names, split="test")
    if isinstance(images, UnlabelledImages) and not all(isinstance(item, Path) for item in images.paths):
        raise SeaAnchorError(f"{source} has no class names", "a name for each class number", "give --class-names")
    if not isinstance(images, LabelledImages):
        raise SeaAnchorError(
            f"{source} has no class folders",
            "labelled images: one folder a class",
            "sort the images into class folders",
        )
    if samples is not None and samples < 1:
        raise SeaAnchorError(f"{samples} samples", "at least one image", "correct --samples")
    return images if samples is None else subset(images, samples, seed)


__all__ = [
    "AttackPlan",
    "Logits",
    "Outcomes",
    "accuracy_rows",
    "classifier",
    "correct",
    "evaluate_stream",
    "fallback",
    "labelled",
    "outcomes",
]
