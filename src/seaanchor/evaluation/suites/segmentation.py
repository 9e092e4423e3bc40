"""Classes of pixels by a linear head on patch tokens: clean, and under attacks on the tokens and on the pixels'
cross-entropy.

Legend: B batch, C classes, H W pixels, M images of a part of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seaanchor.attacks.ball import Ball
from seaanchor.attacks.embedding import embedding_attack
from seaanchor.attacks.segmentation import higher, pixel_attack, pixel_loss
from seaanchor.data.types import SegmentedImages
from seaanchor.encoders.segmentation_head import SegmentationHead, check_dense, masks_of
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan, inside
from seaanchor.evaluation.context import CleanBatch, EvaluationContext, Suite, Tables, legal_check
from seaanchor.evaluation.mean_iou import counts_of, score_of
from seaanchor.evaluation.results import Check
from seaanchor.evaluation.suite_results import Segmentation, SegmentationAttack
from seaanchor.evaluation.table import Table
from seaanchor.functional.distances import relative_distance
from seaanchor.types import Batch

ATTACKS = ("embedding", "apgd-ce")
AT_ONCE = 3e7  # numbers in the logits of the images that are attacked together
LOOKED_AT = 2  # images of each batch that the checks attack again
FEW_STEPS = 5
ROUNDING = 1e-3  # share of an image's pixels that may fall to another class by rounding


@dataclass(frozen=True)
class _Scene:
    """A part of a batch in front of the model: clean images, their masks and clean tokens."""

    encoder: torch.nn.Module
    head: SegmentationHead
    grid: tuple[int, int]
    batch: Batch
    mask_MHW: Tensor
    tokens_MTD: Tensor
    ignore_index: int

    def logits(self, pixels_MCHW: Tensor) -> Tensor:
        """Logits (M, C, H, W) of the pixels."""
        return self.head.logits(self.encoder(pixels_MCHW).float(), self.grid, pixels_MCHW.shape[-1])

    @torch.no_grad()
    def counts(self, logits_MCHW: Tensor) -> Tensor:
        """Counts (M, 3, C) of what these logits answer."""
        classes = len(self.head.class_names)
        return counts_of(logits_MCHW.argmax(1), self.mask_MHW, classes, self.ignore_index)

    def attacked(self, name: str, ball: Ball, num_steps: int, seed: int) -> Tensor:
        """Attacked images."""
        if name == "embedding":
            return embedding_attack(self.encoder, self.batch, ball, num_steps=num_steps, seed=seed).pixels_BCHW
        steps = {"num_steps": num_steps, "seed": seed}
        return pixel_attack(self.logits, self.batch, self.mask_MHW, ball, ignore_index=self.ignore_index, **steps)

    @torch.no_grad()
    def loss(self, name: str, pixels_MCHW: Tensor) -> Tensor:
        """What the attack raises (M,)."""
        if name == "embedding":
            return relative_distance(self.encoder(pixels_MCHW).float(), self.tokens_MTD)
        return pixel_loss(self.logits(pixels_MCHW), self.mask_MHW, self.ignore_index)


def _head(context: EvaluationContext) -> SegmentationHead:
    if context.segmentation is None:
        raise RuntimeError("the suite `segmentation` needs a head")
    return context.segmentation


def _parts(context: EvaluationContext, clean: CleanBatch) -> Iterator[_Scene]:
    head, images, encoder, batch = _head(context), _images(context), context.model.encoder, clean.batch
    mask_BHW = masks_of(images, batch.index_B, encoder).to(context.device)
    at_once = max(1, int(AT_ONCE / (len(head.class_names) * encoder.image_size**2)))
    for rows in torch.arange(len(batch.index_B), device=batch.index_B.device).split(at_once):
        part = Batch(batch.pixels_BCHW[rows], None, batch.index_B[rows])
        tokens_MTD = clean.embedding_BD[rows]
        yield _Scene(encoder, head, check_dense(context.model), part, mask_BHW[rows], tokens_MTD, images.ignore_index)


def _measure(context: EvaluationContext, clean: CleanBatch) -> Table:
    parts = [_rows(scene, context.protocol.embedding) for scene in _parts(context, clean)]
    rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    first = next(_parts(context, CleanBatch(_few(clean.batch), clean.embedding_BD[:LOOKED_AT], clean.logits_BC)))
    plan = context.protocol.embedding
    for name, held_M in ({} if plan is None else _checked(first, plan)).items():
        rows[name] = torch.full((len(clean.batch.index_B),), -1, device=held_M.device)  # not looked at
        rows[name][: len(held_M)] = held_M.long()
    return rows


def _few(batch: Batch) -> Batch:
    return Batch(batch.pixels_BCHW[:LOOKED_AT], None, batch.index_B[:LOOKED_AT])


def _rows(scene: _Scene, plan: AttackPlan | None) -> Table:
    """Counts of each image, clean and under each attack. What was found in a smaller ball lies in the larger one, too:
    the image of the higher loss is taken."""
    with torch.no_grad():
        rows = {"clean": scene.counts(scene.head.logits(scene.tokens_MTD, scene.grid, scene.mask_MHW.shape[-1]))}
    if plan is None:
        return rows
    clean_MCHW = scene.batch.pixels_BCHW
    for name in ATTACKS:
        best_MCHW = clean_MCHW
        for epsilon in sorted(plan.epsilons):
            ball = Ball(plan.norm, epsilon)
            found_MCHW = scene.attacked(name, ball, plan.num_steps, plan.seed)
            losses = scene.loss(name, found_MCHW), scene.loss(name, best_MCHW)
            best_MCHW = higher(*losses, found_MCHW, best_MCHW)
            with torch.no_grad():
                rows[_column(name, epsilon)] = scene.counts(scene.logits(best_MCHW))
            finite_M = losses[0].isfinite()
            rows[f"{_column(name, epsilon)} sound"] = finite_M & inside(best_MCHW, clean_MCHW, ball)
    return rows


def _checked(scene: _Scene, plan: AttackPlan) -> Table:
    """Whether (M,) radius 0 changes nothing, and more steps are not weaker."""
    few, epsilon = min(FEW_STEPS, plan.num_steps), min(plan.epsilons)
    with torch.no_grad():
        clean_MHW = scene.logits(scene.batch.pixels_BCHW).argmax(1)
    found: Table = {}
    for name in ATTACKS:
        zero_MCHW = scene.attacked(name, Ball(plan.norm, 0.0), min(1, plan.num_steps), plan.seed)
        with torch.no_grad():
            changed_M = (scene.logits(zero_MCHW).argmax(1) != clean_MHW).float().mean((1, 2))
        found[f"{name} zero"] = changed_M <= ROUNDING
        ball = Ball(plan.norm, epsilon)
        losses = [scene.loss(name, scene.attacked(name, ball, steps, plan.seed)) for steps in (min(1, few), few)]
        found[f"{name} more"] = losses[1] >= losses[0] - 1e-4 * losses[0].abs()
    return found


def _column(name: str, epsilon: float) -> str:
    return f"{name} {epsilon!r}"


def _images(context: EvaluationContext) -> SegmentedImages:
    if not isinstance(context.images, SegmentedImages):
        raise SeaAnchorError(
            f"{context.dataset} has no masks",
            "images with a mask each, which gives every pixel a class",
            "leave segmentation out of the suites, or name a folder with images and masks",
        )
    return context.images


def _check(context: EvaluationContext) -> None:
    check_dense(context.model)
    _images(context)


def _summarise(context: EvaluationContext, tables: Tables) -> Segmentation:
    plan, own, names = context.protocol.embedding, tables.own, context.class_names
    attacked = [
        SegmentationAttack(
            name, epsilon, plan.norm, plan.num_steps, score_of(own[_column(name, epsilon)].numpy(), names)
        )
        for name in ATTACKS
        for epsilon in (() if plan is None else sorted(plan.epsilons))
        if plan is not None
    ]
    return Segmentation(score_of(own["clean"].numpy(), names), tuple(attacked), _head(context).digest)


def _audit(context: EvaluationContext, tables: Tables) -> dict[str, Check]:
    plan, own = context.protocol.embedding, tables.own
    if plan is None:
        return {}
    sound = [own[f"{_column(name, epsilon)} sound"] for name in ATTACKS for epsilon in plan.epsilons]
    checks = legal_check(sound)
    for name in ATTACKS:
        for column, what in (("zero", "epsilon 0 equals clean"), ("more", "more steps are not weaker")):
            seen = own[f"{name} {column}"]
            failed, looked_at = int((seen == 0).sum()), int((seen >= 0).sum())
            allowed = max(1, looked_at // 50) if column == "more" else 0
            checks[f"{name}: {what}"] = Check(failed <= allowed, f"{failed} of {looked_at} images differ")
    return checks


SUITE = Suite(_summarise, _measure, classes=False, check=_check, audit=_audit)
