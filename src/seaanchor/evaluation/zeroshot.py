"""Zero-shot accuracy, clean and under attack, image by image and streaming.

Legend: B batch, N images, C channels or classes, H W pixels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from seaanchor.config import RunConfig
from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.head import build_head
from seaanchor.errors import SeaAnchorError
from seaanchor.parts import Batch, Head, Preference, frozen
from seaanchor.perturbations.apgd import apgd_ce, apgd_targeted
from seaanchor.perturbations.ball import Ball
from seaanchor.perturbations.pgd import pgd_attack

AttackName = Literal["pgd", "apgd-ce", "apgd"]
Logits = Callable[[Tensor], Tensor]
FEWEST_TARGETED = 4  # classes; the targeted DLR loss compares the third and fourth largest logits


@dataclass(frozen=True)
class AttackPlan:
    """Which attack at which radii.

    Attributes:
        name: `pgd`, `apgd-ce`, or `apgd` (APGD-CE, then targeted APGD-DLR on the survivors).
        norm: `linf` or `l2`.
        epsilons: radii in pixel units, in any order; they are attacked from the smallest up.
        num_steps: gradient steps of each attack.
        seed: of the random starts, which depend on the image and not on its batch.
    """

    name: AttackName
    norm: Literal["linf", "l2"]
    epsilons: tuple[float, ...]
    num_steps: int
    seed: int = 0


@dataclass(frozen=True)
class Outcomes:
    """Which images were classified correctly: clean (N,), among the five likeliest classes (N,), and per attack and radius (N,), with
    each image's number and label."""

    index_N: Tensor
    label_N: Tensor
    clean_N: Tensor
    top5_N: Tensor
    attacked: dict[tuple[AttackName, float], Tensor]


def evaluate_stream(logits: Logits, stream: Iterable[Batch], plans: tuple[AttackPlan, ...]) -> Outcomes:
    """Classify and attack a stream of labelled batches; only one batch is in memory at a time.

    An image fooled at a smaller radius stays fooled at a larger one: the smaller perturbation lies in the larger ball.

    Raises:
        SeaAnchorError: no image could be read.
    """
    index, label, clean, top5 = [], [], [], []
    attacked: dict[tuple[AttackName, float], list[Tensor]] = {(p.name, e): [] for p in plans for e in sorted(p.epsilons)}
    for batch in stream:
        if len(batch.index_B) == 0 or batch.label_B is None:
            continue
        with torch.no_grad():
            logits_BC = logits(batch.pixels_BCHW)
        correct_B = logits_BC.argmax(-1) == batch.label_B
        index.append(batch.index_B)
        label.append(batch.label_B)
        clean.append(correct_B)
        top5.append((logits_BC.topk(min(5, logits_BC.shape[-1])).indices == batch.label_B[:, None]).any(-1))
        for plan in plans:
            standing_B = correct_B.clone()
            for epsilon in sorted(plan.epsilons):
                standing_B = attack_survivors(logits, batch, standing_B, plan, epsilon)
                attacked[plan.name, epsilon].append(standing_B.clone())
    if not index:
        raise SeaAnchorError("no labelled image could be read", "at least one readable image in a class folder", "check the folder")
    whole = {key: torch.cat(parts) for key, parts in attacked.items()}
    return Outcomes(torch.cat(index), torch.cat(label), torch.cat(clean), torch.cat(top5), whole)


def attack_survivors(logits: Logits, batch: Batch, standing_B: Tensor, plan: AttackPlan, epsilon: float) -> Tensor:
    """Which of the images still standing are correct after the attack at `epsilon` (B,)."""
    standing_B = standing_B.clone()
    ball = Ball(plan.norm, epsilon)
    for stage in _stages(plan, logits, batch):
        rows = standing_B.nonzero().squeeze(1)
        if len(rows) == 0:
            break
        label_B = batch.label_B[rows]  # type: ignore[index]
        result = stage(logits, batch.pixels_BCHW[rows], label_B, ball, num_steps=plan.num_steps, index_B=batch.index_B[rows], seed=plan.seed)
        standing_B[rows] = ~result.fooled_B
    return standing_B


def _stages(plan: AttackPlan, logits: Logits, batch: Batch) -> list[Callable]:
    if plan.name == "pgd":
        return [pgd_attack]
    if plan.name == "apgd-ce":
        return [apgd_ce]
    with torch.no_grad():
        num_classes = logits(batch.pixels_BCHW[:1]).shape[-1]
    return [apgd_ce] if fallback(plan, num_classes) else [apgd_ce, apgd_targeted]


def fallback(plan: AttackPlan, num_classes: int) -> str | None:
    """What is left out of the attack for want of classes, in words for the result file; None if nothing is."""
    if plan.name != "apgd" or num_classes >= FEWEST_TARGETED:
        return None
    return f"APGD-CE alone: targeted DLR needs {FEWEST_TARGETED} classes, here are {num_classes}"


def self_checks(logits: Logits, batch: Batch, plans: tuple[AttackPlan, ...]) -> dict[str, bool]:
    """What must hold whatever the model: radius 0 changes nothing, an image's outcome does not depend on its batch, and an attack
    of more steps is not weaker. One image in 500, and at least one, may differ by rounding."""
    slack = max(1, len(batch.index_B) // 500)
    half = len(batch.index_B) // 2
    halves = [_rows(batch, part) for part in (slice(0, half), slice(half, None)) if len(batch.index_B[part])]

    clean_B = _correct(logits, batch)
    checks = {"clean: batch size changes nothing": int((torch.cat([_correct(logits, rows) for rows in halves]) != clean_B).sum()) <= slack}
    for plan in plans:
        least = min(plan.epsilons)
        whole_B = attack_survivors(logits, batch, clean_B, plan, least)
        apart_B = torch.cat([attack_survivors(logits, rows, _correct(logits, rows), plan, least) for rows in halves])
        one_step_B = attack_survivors(logits, batch, clean_B, replace(plan, num_steps=min(1, plan.num_steps)), least)
        at_zero_B = attack_survivors(logits, batch, clean_B, plan, 0.0)
        checks[f"{plan.name}: epsilon 0 equals clean"] = bool((at_zero_B == clean_B).all())
        checks[f"{plan.name}: batch size changes nothing"] = int((apart_B != whole_B).sum()) <= slack
        checks[f"{plan.name}: more steps are not weaker"] = int(whole_B.sum() - one_step_B.sum()) <= slack
    return checks


@torch.no_grad()
def _correct(logits: Logits, batch: Batch) -> Tensor:
    if batch.label_B is None:
        raise SeaAnchorError("images without labels", "labelled images: one folder a class", "sort the images into class folders")
    return logits(batch.pixels_BCHW).argmax(-1) == batch.label_B


def _rows(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.pixels_BCHW[rows], None if batch.label_B is None else batch.label_B[rows], batch.index_B[rows])


def classifier(model: LoadedModel, head: Head, device: torch.device) -> Logits:
    """Pixels → logits of the zero-shot classifier, in fp32."""
    encoder = model.encoder.to(device).eval()
    on_device = Head(head.weight_CD.to(device), head.logit_scale)
    return lambda pixels_BCHW: on_device(encoder(pixels_BCHW).float())


def labelled(source: str, class_names: Path | None, samples: int | None, seed: int) -> ImageList:
    """The labelled images of a source, at most `samples` of them.

    Raises:
        SeaAnchorError: there are no class folders, or fewer than one sample is asked for.
    """
    images = open_images(source, class_names, split="test")
    if images.labels is None:
        raise SeaAnchorError(f"{source} has no class folders", "labelled images: one folder a class", "sort the images into class folders")
    if samples is not None and samples < 1:
        raise SeaAnchorError(f"{samples} samples", "at least one image", "correct --samples")
    return images if samples is None else subset(images, samples, seed)


def quick_accuracy(model: LoadedModel, config: RunConfig) -> dict[str, dict[str, float]]:
    """Clean and PGD-10 accuracy on a few images of each validation set, while training goes on."""
    from seaanchor.config import parse_epsilon

    device = model.encoder.mean.device
    was_training = model.encoder.training
    epsilon = parse_epsilon(config.perturbation.epsilon, config.perturbation.norm)
    plan = AttackPlan("pgd", config.perturbation.norm, (epsilon,), 10, config.seed)
    report = {}
    for source in config.val_data:
        images = labelled(source, None, config.eval_samples, config.seed)
        logits = classifier(model, build_head(model, images.class_names or (), config.templates), device)
        stream = batches(FolderDataset(images, model.encoder.image_size), config.batch_size, workers=0, order=None, skip_log=SkipLog(images))
        with frozen(model.encoder):
            outcomes = evaluate_stream(logits, (_to(batch, device) for batch in stream), (plan,))
        robust_N = outcomes.attacked["pgd", epsilon]
        report[source] = {"clean": outcomes.clean_N.float().mean().item(), "pgd": robust_N.float().mean().item(), "n": len(robust_N)}
    model.encoder.train(was_training)
    return report


def _to(batch: Batch, device: torch.device) -> Batch:
    label_B = None if batch.label_B is None else batch.label_B.to(device)
    pair = batch.preference
    preference = None if pair is None else Preference(pair.chosen_B.to(device), pair.rejected_B.to(device))
    return Batch(batch.pixels_BCHW.to(device), label_B, batch.index_B.to(device), preference)
