"""Masks of segmented images: files to class numbers, and to the square that a model is shown.

Legend: H W pixels, S side of the square in pixels, C classes, N images.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from seaanchor.data.images import FORMATS, Item, check_png
from seaanchor.data.preprocessing import Preprocessing, preprocessing_of, to_square
from seaanchor.data.types import SegmentedImages
from seaanchor.errors import SeaAnchorError

EXACT = ("PNG", "BMP", "GIF", "TIFF", "PPM")  # formats that give back the numbers that were written
LOOKED_AT = 32  # masks that are read when images are listed


def read_mask(images: SegmentedImages, index: int, how: int | Preprocessing) -> Tensor:
    """The classes of an image's pixels as `read_image` shows them to an encoder: resized, cropped and padded alike.

    Args:
        images: the list.
        index: which of its images.
        how: the encoder's preprocessing, or S. The nearest pixel gives the class; padding has none.

    Returns:
        int64 (S, S): class numbers, and `ignore_index` where there is no class.

    Raises:
        SeaAnchorError: as `classes_of`.
    """
    classes_HW = classes_of(images, index)
    how = replace(
        preprocessing_of(how), interpolation="nearest", fill=images.ignore_index, colours="own", backend="pillow"
    )
    return to_square(Image.fromarray(classes_HW), how)[0].long()


def classes_of(images: SegmentedImages, index: int) -> np.ndarray:
    """The classes of an image's pixels at its own size.

    Returns:
        uint8 (H, W): class numbers, and `ignore_index` where there is no class.

    Raises:
        SeaAnchorError: a mask that is unreadable, of colours or compressed with losses, of another size than its image,
            or with a number that no class has.
    """
    mask = images.masks[index]
    stored_HW = stored_numbers(mask)
    check_size(mask, (stored_HW.shape[1], stored_HW.shape[0]), images.paths[index])
    void_HW = (stored_HW < images.first) | (stored_HW == images.ignore_index)
    classes_HW = np.where(void_HW, images.ignore_index, stored_HW - images.first)
    high = classes_HW[~void_HW].max(initial=0)
    if high >= len(images.class_names):
        raise SeaAnchorError(
            f"{mask} holds {high + images.first}, and there are {len(images.class_names)} classes",
            f"{images.first} to {images.first + len(images.class_names) - 1}, and {images.ignore_index} for no class",
            "correct the mask, or name every class",
        )
    return classes_HW.astype(np.uint8)


def stored_numbers(mask: Path) -> np.ndarray:
    """The numbers in a mask file, int64 (H, W): grey levels, or the indices of a palette.

    Raises:
        SeaAnchorError: unreadable, of a format with losses, or colours that are no numbers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mask.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                if image.format == "PNG":
                    check_png(file)
                image.load()
                form, mode, values = image.format, image.mode, np.asarray(image)
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise SeaAnchorError(
            f"the mask {mask} could not be read ({type(error).__name__}: {str(error)[:120]})",
            "an image of one number a pixel",
            "correct it, or leave its image out",
        ) from error
    if form not in EXACT:
        raise SeaAnchorError(
            f"the mask {mask} is a {form}, which changes numbers when it compresses", "a PNG", "save the masks as PNG"
        )
    if mode in ("RGB", "RGBA") and bool((values[..., :3] == values[..., :1]).all()):
        mode, values = "L", values[..., 0]
    if mode not in ("1", "L", "P") and not mode.startswith("I"):
        raise SeaAnchorError(
            f"the mask {mask} has colours ({mode})",
            "class numbers: an indexed or grey PNG",
            "convert the colours to class numbers",
        )
    return values.astype(np.int64)


def check_size(mask: Path, size: tuple[int, int], image: Item) -> None:
    """Compare a mask's width and height with those of its image as it is shown; an image that cannot be opened is left
    to those who read it.

    Raises:
        SeaAnchorError: they differ.
    """
    shown = shown_size(image)
    if shown is not None and shown != size:
        raise SeaAnchorError(
            f"the mask {mask} has {size[0]} × {size[1]} pixels, and {image.name} {shown[0]} × {shown[1]}",
            "masks of their images' sizes, after the images are turned as their EXIF blocks say",
            "write the masks at the size of the images",
        )


def shown_size(image: Item) -> tuple[int, int] | None:
    """Width and height of an image, turned as its EXIF block says; None if it cannot be opened."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with image.open("rb") as file, Image.open(file, formats=FORMATS) as opened:
                turned = opened.getexif().get(0x0112, 1) >= 5
                return (opened.height, opened.width) if turned else opened.size
    except Exception:  # as above
        return None


def checked(images: SegmentedImages) -> SegmentedImages:
    """The same images, after some masks were read, evenly from all of them.

    Raises:
        SeaAnchorError: as `classes_of`, or no pixel of these masks has a class, or all that have one have class 0
            although there are others.
    """
    count, classes_there = len(images.masks), len(images.class_names)
    if not 0 < classes_there <= 255 or (images.first and images.ignore_index < classes_there):
        raise SeaAnchorError(
            f"{images.root} has {classes_there} classes, and {images.ignore_index} stands for no class",
            "1 to 255 classes, and a number beyond theirs",
            "name another number for no class",
        )
    found: set[int] = set()
    for index in sorted({i * count // LOOKED_AT for i in range(LOOKED_AT)} if count > LOOKED_AT else range(count)):
        found |= set(np.unique(classes_of(images, index)).tolist())
    classes = found - {images.ignore_index}
    if not classes:
        raise SeaAnchorError(
            f"no pixel of the masks in {images.root} has a class",
            f"numbers other than {images.ignore_index}{f' and those below {images.first}' if images.first else ''}",
            "correct the masks, or the number that stands for no class",
        )
    if classes == {0} and images.ignore_index in found and len(images.class_names) > 1 and not images.first:
        raise SeaAnchorError(
            f"the masks in {images.root} hold 0 and {images.ignore_index} alone, which stands for no class",
            f"a number for each of {len(images.class_names)} classes",
            f"write 1 in place of {images.ignore_index}, or name another number for no class",
        )
    return images


def highest(masks: Sequence[Path], ignore_index: int) -> int:
    """The highest class number in some masks, −1 if there is none. All of them are read."""
    found = -1
    for mask in masks:
        numbers = stored_numbers(mask)
        found = max(found, int(numbers[numbers != ignore_index].max(initial=-1)))
    return found
