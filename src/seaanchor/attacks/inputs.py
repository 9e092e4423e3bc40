"""What an attack accepts: images in [0, 1], class numbers, and a model that gives one row of numbers for each image.

Legend: B batch, C channels, H W pixels, Y classes.
"""

from typing import Any

import torch
from torch import Tensor

from seaanchor.errors import SeaAnchorError

Labels = Tensor | list[int] | tuple[int, ...]


def check_images(images_BCHW: Tensor) -> None:
    """Fail unless the images are float (B, C, H, W), finite and in [0, 1].

    Raises:
        SeaAnchorError: they are not.
    """
    if not isinstance(images_BCHW, Tensor) or images_BCHW.dim() != 4:
        found = f"images of shape {tuple(images_BCHW.shape)}" if isinstance(images_BCHW, Tensor) else _kind(images_BCHW)
        raise SeaAnchorError(found, "a tensor (B, C, H, W) of images", "stack the images: torch.stack(images)")
    if not images_BCHW.is_floating_point():
        raise SeaAnchorError(
            f"images of {images_BCHW.dtype}", "float pixels in [0, 1]", "divide 8-bit images: images.float() / 255"
        )
    if images_BCHW.numel() == 0:
        return
    low, high = (float(x) for x in images_BCHW.detach().aminmax())
    if not (low >= 0 and high <= 1):  # also where one is no number
        raise SeaAnchorError(
            f"pixels of {low:.4g} to {high:.4g}",
            "pixels in [0, 1]; normalisation belongs inside the model",
            "undo the normalisation, or clamp what resizing overshot: images.clamp(0, 1)",
        )


def check_labels(labels: Labels, count: int, device: torch.device) -> Tensor:
    """The labels as a tensor (B,) of int64.

    Raises:
        SeaAnchorError: they are not `count` whole numbers of at least 0.
    """
    label_B = torch.as_tensor(labels).to(device)
    if label_B.dim() != 1 or label_B.is_floating_point() or label_B.is_complex() or label_B.dtype == torch.bool:
        raise SeaAnchorError(
            f"labels of {label_B.dtype} and shape {tuple(label_B.shape)}",
            "class numbers: a tensor (B,) of integers",
            "hand in one class number for each image; of one-hot rows, labels.argmax(-1)",
        )
    if len(label_B) != count:
        raise SeaAnchorError(f"{len(label_B)} labels of {count} images", "one for each image", "correct the labels")
    if count and int(label_B.min()) < 0:
        raise SeaAnchorError(f"label {int(label_B.min())}", "class numbers from 0", "leave out unlabelled images")
    return label_B.long()


def check_index(index: Tensor | None, count: int, device: torch.device) -> Tensor:
    """Each image's number in its data set (B,); its place in the batch where none is given.

    Raises:
        SeaAnchorError: they are not `count` integers.
    """
    if index is None:
        return torch.arange(count, device=device)
    if index.shape != (count,) or index.is_floating_point():
        raise SeaAnchorError(
            f"image numbers of {index.dtype} and shape {tuple(index.shape)}",
            f"({count},) integers",
            "hand in one number for each image, or none",
        )
    return index.to(device)


def check_output(output: Any, count: int, name: str) -> Tensor:
    """What a model gave for `count` images, as float (B, Y).

    Args:
        output: of the model.
        count: B.
        name: what it is called in errors, such as `the classifier`.

    Raises:
        SeaAnchorError: it is no float tensor (B, Y).
    """
    columns = "embeddings (B, D)" if name == "the encoder" else "logits (B, Y)"
    if not isinstance(output, Tensor):
        raise SeaAnchorError(
            f"{name} returned {_kind(output)}", f"a tensor of {columns}", "wrap it: lambda pixels: model(pixels)[0]"
        )
    if output.dim() != 2 or len(output) != count:
        raise SeaAnchorError(
            f"{name} returned shape {tuple(output.shape)} for {count} images",
            f"{columns}, one row for each image",
            "return one row for each image",
        )
    if not output.is_floating_point():
        raise SeaAnchorError(f"{name} returned {output.dtype}", f"float {columns}", "return scores, not class numbers")
    return output.float()


def check_finite(output: Tensor, name: str) -> None:
    """Fail where the output of clean images is not finite.

    Raises:
        SeaAnchorError: it holds NaN or infinity.
    """
    if not bool(output.isfinite().all()):
        raise SeaAnchorError(
            f"{name} returned NaN or infinity for clean images", "finite numbers", "check its weights and its precision"
        )


def check_classes(label_B: Tensor, num_classes: int) -> None:
    """Fail where a label is no class of the model.

    Raises:
        SeaAnchorError: one is at or above `num_classes`, or there is only one class.
    """
    if num_classes < 2:
        raise SeaAnchorError("a classifier of one class", "at least two classes", "hand in logits (B, Y) with Y ≥ 2")
    if len(label_B) and int(label_B.max()) >= num_classes:
        raise SeaAnchorError(
            f"label {int(label_B.max())} of a classifier with {num_classes} classes",
            f"labels from 0 to {num_classes - 1}",
            "check that labels and classifier number the same classes",
        )


def check_gradients(broken_B: Tensor, name: str) -> None:
    """Fail where an attack met gradients that are NaN or infinite: it stands still there, and the image would count as
    robust.

    Raises:
        SeaAnchorError: it did.
    """
    if bool(broken_B.any()):
        raise SeaAnchorError(
            f"{name} gives a gradient that is NaN or infinite for {int(broken_B.sum())} of {len(broken_B)} images",
            "finite gradients, which a gradient attack follows",
            "look for a root or a norm of 0 and for a division by 0 in its forward; attacks.Square needs no gradient",
        )


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
