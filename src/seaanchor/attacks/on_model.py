"""Any model as the attacks see it: pixels in fp32 in, numbers in fp32 out, and the model as it was afterwards.

Legend: B batch, C channels, H W pixels, Y classes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from seaanchor.attacks.ball import Ball, Norm
from seaanchor.attacks.classification import AttackResult, Logits, broken
from seaanchor.attacks.inputs import (
    Labels,
    check_classes,
    check_finite,
    check_gradients,
    check_images,
    check_index,
    check_labels,
    check_output,
)
from seaanchor.errors import SeaAnchorError
from seaanchor.functional.gradients import attackable

Model = nn.Module | Callable[[Tensor], Tensor]
Stage = Callable[[Logits, Tensor, Tensor, Tensor], AttackResult]
"""(logits, clean pixels, labels, image numbers) → result."""
Stages = Callable[[int], tuple[Stage, ...]]
"""Number of classes → the attacks, each on what the one before left standing."""


def check_settings(epsilon: float, norm: Norm, steps: int, batch_size: int | None) -> None:
    """Fail where an attack's settings are out of range.

    Raises:
        SeaAnchorError: a bad radius or norm, a negative number of steps, or a batch size below 1.
    """
    Ball(norm, epsilon)
    if steps < 0:
        raise SeaAnchorError(f"{steps} steps", "at least 0", "give another number")
    if batch_size is not None and batch_size < 1:
        raise SeaAnchorError(f"a batch size of {batch_size}", "at least 1, or None", "give another number")


@contextmanager
def in_fp32(model: Model, device: torch.device, name: str) -> Iterator[tuple[Logits, torch.device]]:
    """The model as a function from fp32 pixels to fp32 numbers, and the device that its weights are on.

    A module is in eval mode and frozen meanwhile; autocast and inference mode around the attack are off.

    Args:
        model: pixels → (B, Y).
        device: of the images; used where the model has no weights.
        name: of the model in errors.
    """
    weights = list(model.parameters()) if isinstance(model, nn.Module) else []
    kinds = [w.dtype for w in weights if w.is_floating_point()]
    place = weights[0].device if weights else device
    kind = kinds[0] if kinds else torch.float32

    def function(pixels_BCHW: Tensor) -> Tensor:
        return check_output(model(pixels_BCHW.to(kind)), len(pixels_BCHW), name)

    with torch.inference_mode(False), torch.autocast(place.type, enabled=False), attackable(model):
        yield function, place


def attack_classifier(
    stages: Stages, classifier: Model, images_BCHW: Tensor, labels: Labels, index: Tensor | None, batch_size: int | None
) -> AttackResult:
    """Attack the images that the classifier gets right, by one stage after another.

    Args:
        stages: of the attack.
        classifier: pixels → logits (B, Y).
        images_BCHW: in [0, 1].
        labels: their classes (B,).
        index: each image's number in its data set (B,), which its random start depends on; its place by default.
        batch_size: images at once; all by default.

    Returns:
        fp32 images on the device of `images_BCHW`. Misclassified images come back as they were.

    Raises:
        SeaAnchorError: bad images, labels, logits or gradients.
    """
    check_images(images_BCHW)
    count = len(images_BCHW)
    with in_fp32(classifier, images_BCHW.device, "the classifier") as (logits, device):
        pixels_BCHW = images_BCHW.detach().to(device, torch.float32, copy=True)
        label_B, index_B = check_labels(labels, count, device), check_index(index, count, device)
        fooled_B = torch.zeros(count, dtype=torch.bool, device=device)
        for rows in torch.arange(count, device=device).split(batch_size or max(1, count)):
            if len(rows) == 0:
                break
            result = _attack_chunk(stages, logits, pixels_BCHW[rows], label_B[rows], index_B[rows])
            pixels_BCHW[rows], fooled_B[rows] = result.pixels_BCHW, result.fooled_B
    return AttackResult(pixels_BCHW.to(images_BCHW.device), fooled_B.to(images_BCHW.device))


def _attack_chunk(
    stages: Stages, logits: Logits, pixels_BCHW: Tensor, label_B: Tensor, index_B: Tensor
) -> AttackResult:
    with torch.no_grad():
        clean_BY = logits(pixels_BCHW)
    check_finite(clean_BY, "the classifier")
    check_classes(label_B, clean_BY.shape[-1])
    fooled_B, result_BCHW = clean_BY.argmax(-1) != label_B, pixels_BCHW.clone()
    for number, stage in enumerate(stages(clean_BY.shape[-1])):
        rows = (~fooled_B).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        found = stage(logits, pixels_BCHW[rows], label_B[rows], index_B[rows])
        check_gradients(broken(found), "the classifier")
        taken_B = found.fooled_B if number else torch.ones_like(found.fooled_B)  # unfooled: as the first stage left it
        result_BCHW[rows[taken_B]] = found.pixels_BCHW[taken_B]
        fooled_B[rows] = found.fooled_B
    return AttackResult(result_BCHW, fooled_B)
