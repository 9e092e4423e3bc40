"""Mean intersection over union of a set of images, with its uncertainty.

Legend: B batch, N images, C classes, H W pixels, R resamples. Counts (N, 3, C) hold for each image and class the pixels
where label and answer agree, those of the label, and those of the answer.
"""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True)
class SegmentationScore:
    """How well the classes of pixels are found.

    Attributes:
        miou: mean over classes of intersection over union, accumulated over all images; classes that neither labels nor
            answers hold are left out.
        low, high: ends of its 95 % interval, by resampling images.
        pixel_accuracy: share of pixels with the right class.
        n: images.
        classes: how many classes the mean is taken over.
        iou: of each class by its name.
        counts: per image and class, so that two models can be compared on the same images: 32-bit numbers (N, 3, C),
            compressed (zlib) and written in base 64.
    """

    miou: float
    low: float | None = None
    high: float | None = None
    pixel_accuracy: float | None = None
    n: int | None = None
    classes: int | None = None
    iou: dict[str, float] | None = None
    counts: str | None = None

    @property
    def counts_N3C(self) -> np.ndarray | None:
        """The counts (N, 3, C), or None where they are not known."""
        return None if self.counts is None or self.n is None else unpacked(self.counts, self.n)


def counts_of(answer_BHW: Tensor, mask_BHW: Tensor, classes: int, ignore_index: int) -> Tensor:
    """Pixels (B, 3, C) of each image and class: right, labelled, answered. Pixels without a class are left out."""
    count = len(mask_BHW)
    known = mask_BHW != ignore_index
    offset_BHW = (torch.arange(count, device=mask_BHW.device) * classes).view(-1, 1, 1)

    def histogram(class_BHW: Tensor, which: Tensor) -> Tensor:
        return (class_BHW + offset_BHW)[which].bincount(minlength=count * classes).view(count, classes)

    right = known & (answer_BHW == mask_BHW)
    return torch.stack([histogram(mask_BHW, right), histogram(mask_BHW, known), histogram(answer_BHW, known)], 1)


def score_of(counts_N3C: Tensor | np.ndarray, class_names: Sequence[str]) -> SegmentationScore:
    """The score of a set of images from their counts.

    Raises:
        ValueError: no image, or no pixel with a class.
    """
    counts = np.asarray(counts_N3C, dtype=np.int64)
    whole = counts.sum(0)
    if not len(counts) or not whole[1].sum():
        raise ValueError("there is no pixel with a class; expected at least one")
    iou_C = _iou(whole[None])[0]
    low, high = np.quantile(mean_iou(resampled(counts)), [0.025, 0.975])
    return SegmentationScore(
        miou=float(np.nanmean(iou_C)),
        low=float(low),
        high=float(high),
        pixel_accuracy=float(whole[0].sum() / whole[1].sum()),
        n=len(counts),
        classes=int(np.isfinite(iou_C).sum()),
        iou={name: float(x) for name, x in zip(class_names, iou_C, strict=True) if np.isfinite(x)},
        counts=packed(counts),
    )


def mean_iou(counts_R3C: np.ndarray) -> np.ndarray:
    """Mean IoU (R,) of accumulated counts (R, 3, C)."""
    return np.nanmean(_iou(counts_R3C), -1)


def constant_miou(counts_N3C: np.ndarray) -> float:
    """Mean IoU of always answering the class that most pixels have."""
    labelled_C = counts_N3C[:, 1].sum(0)
    return float(labelled_C.max() / labelled_C.sum() / (labelled_C > 0).sum())


def _iou(counts_R3C: np.ndarray) -> np.ndarray:
    """IoU (R, C); NaN of a class that neither labels nor answers hold."""
    right, labelled, answered = (counts_R3C[:, i].astype(float) for i in range(3))
    union = labelled + answered - right
    return np.divide(right, union, out=np.full_like(right, np.nan), where=union > 0)


def resampled(counts_N3C: np.ndarray) -> np.ndarray:
    """Accumulated counts (R, 3, C) of as many images drawn with replacement; the same draws for the same N."""
    count = len(counts_N3C)
    rng = np.random.default_rng(SEED)
    times_RN = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)
    accumulated = times_RN @ counts_N3C.reshape(count, -1).astype(float)
    empty = accumulated.reshape(RESAMPLES, 3, -1)[:, 1].sum(-1) == 0  # images without any class were drawn alone
    return accumulated[~empty].reshape(-1, *counts_N3C.shape[1:])


def paired_difference_of_miou(one_N3C: np.ndarray, other_N3C: np.ndarray) -> tuple[float, float, float]:
    """Mean IoU of one model less that of another on the same images, with a 95 % interval by resampling images, the
    same for both.

    Raises:
        ValueError: other numbers of images or classes.
    """
    if one_N3C.shape != other_N3C.shape:
        raise ValueError(f"counts of shapes {one_N3C.shape} and {other_N3C.shape}; expected the same images")
    middle = float(mean_iou(one_N3C.sum(0)[None])[0] - mean_iou(other_N3C.sum(0)[None])[0])
    low, high = np.quantile(mean_iou(resampled(one_N3C)) - mean_iou(resampled(other_N3C)), [0.025, 0.975])
    return middle, float(low), float(high)


def packed(counts_N3C: np.ndarray) -> str:
    """Counts as text."""
    return base64.b64encode(zlib.compress(counts_N3C.astype("<u4").tobytes(), 9)).decode()


def unpacked(text: str, count: int) -> np.ndarray:
    """Counts (N, 3, C) from text."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4").reshape(count, 3, -1)
