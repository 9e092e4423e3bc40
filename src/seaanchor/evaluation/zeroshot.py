"""Zero-shot accuracy, clean and under attack, image by image and streaming.

Legend: B batch, N images, C channels or classes, H W pixels, D embedding dimension.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seaanchor.attacks.classification import Classifier, Logits, Precision
from seaanchor.config.schema import RunConfig, parse_epsilon
from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.data.types import LabelledImages, TypographicImages
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.frozen_copies import folded, in_precision
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.kernels import fast_kernels, num_tokens
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan, attack_all, fallback
from seaanchor.evaluation.rows import Table, to_device
from seaanchor.evaluation.suites.typographic import TypographicPlan, evaluate_typographic
from seaanchor.functional.gradients import frozen
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
        rows[_column(plan, epsilon, "standing")], rows[_column(plan, epsilon, "sound")] = (
            survival.standing_B,
            survival.sound_B,
        )
    return rows


def outcomes(table: Table, plans: Sequence[AttackPlan]) -> Outcomes:
    """The columns of `accuracy_rows` by name."""
    keys = [(plan, epsilon) for plan in plans for epsilon in sorted(plan.epsilons)]
    attacked, sound = ({key: table[_column(*key, what)] for key in keys} for what in ("standing", "sound"))
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


def on_device(head: Head, device: torch.device) -> Head:
    """The head there."""
    return Head(head.weight_CD.to(device), head.logit_scale)


def classifier(model: LoadedModel, head: Head, device: torch.device, precision: Precision = "fp32") -> Classifier:
    """Pixels → logits of the zero-shot classifier, by a frozen tower that an attack can ask fast: batch normalisation
    is folded into convolutions.

    Args:
        model, head: tower and class embeddings; the tower is put on the device, in eval mode.
        device: where they run.
        precision: with `bf16`, logits of that precision are there as well, whose gradients an attack may follow. fp32
            judges.
    """
    head = on_device(head, device)
    encoder = folded(model.encoder.to(device).eval())
    embed_low = None if precision == "fp32" else in_precision(encoder, torch.bfloat16)
    tokens = num_tokens(encoder)

    def logits(pixels_BCHW: Tensor) -> Tensor:
        with fast_kernels(encoder, torch.float32, tokens):
            return head(encoder(pixels_BCHW).float())

    return Classifier(logits, None if embed_low is None else lambda pixels_BCHW: head(embed_low(pixels_BCHW)))


def labelled(source: str, class_names: Path | None, samples: int | None, seed: int) -> LabelledImages:
    """The labelled images of a source, at most `samples` of them.

    Raises:
        SeaAnchorError: there are no class folders, or fewer than one sample is asked for.
    """
    images = open_images(source, class_names, split="test")
    if not isinstance(images, LabelledImages):
        raise SeaAnchorError(
            f"{source} has no class folders",
            "labelled images: one folder a class",
            "sort the images into class folders",
        )
    if samples is not None and samples < 1:
        raise SeaAnchorError(f"{samples} samples", "at least one image", "correct --samples")
    return images if samples is None else subset(images, samples, seed)


def quick_accuracy(model: LoadedModel, config: RunConfig) -> dict[str, dict[str, float]]:
    """Accuracy on a few images of each validation set, while training goes on: clean, and against what the run trains
    against. With drawn words that is `attacked` and `attack_word`, how often the drawn word wins; else `pgd`, under PGD
    with 10 steps at the training radius."""
    device, was_training = model.encoder.mean.device, model.encoder.training
    look = _quick_typographic if config.perturbation.kind == "typographic" else _quick_pgd
    report = {}
    for source in config.val_data:
        images = labelled(source, None, config.eval_samples, config.seed)
        logits = classifier(model, build_head(model, images.class_names, config.templates), device)
        stream = batches(
            ImageDataset(images, model.encoder.image_size),
            config.batch_size,
            workers=0,
            order=None,
            skip_log=SkipLog(images),
        )
        with frozen(model.encoder):
            report[source] = look(logits, (to_device(batch, device) for batch in stream), images, config)
    model.encoder.train(was_training)
    return report


def _quick_pgd(logits: Logits, stream: Iterable[Batch], images: LabelledImages, config: RunConfig) -> dict[str, float]:
    epsilon = parse_epsilon(config.perturbation.epsilon, config.perturbation.norm)
    plan = AttackPlan("pgd", config.perturbation.norm, (epsilon,), 10, config.seed)
    found = evaluate_stream(logits, stream, (plan,))
    robust_N = found.attacked[plan, epsilon]
    plain = "lettered" if isinstance(images, TypographicImages) else "clean"  # images that carry a word already
    return {plain: found.clean_N.float().mean().item(), "pgd": robust_N.float().mean().item(), "n": len(robust_N)}


def _quick_typographic(
    logits: Logits, stream: Iterable[Batch], images: LabelledImages, config: RunConfig
) -> dict[str, float]:
    settings = config.perturbation
    plan = TypographicPlan(settings.words, settings.fonts, (settings.sizes[0], settings.sizes[1]), config.seed)
    found = evaluate_typographic(logits, stream, images.class_names, plan)
    shares = {name: found[name]["accuracy"] for name in ("clean", "attacked", "attack_word") if name in found}
    return shares | {"n": found["attacked"]["n"]}


__all__ = [
    "AttackPlan",
    "Logits",
    "Outcomes",
    "accuracy_rows",
    "classifier",
    "evaluate_stream",
    "fallback",
    "labelled",
    "on_device",
    "outcomes",
    "quick_accuracy",
]
