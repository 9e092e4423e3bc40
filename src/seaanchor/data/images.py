"""Any image file to RGB pixels at the model's input size.

Legend: S side of the square in pixels.
"""

import warnings
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "GIF",
    "TIFF",
    "PPM",
)  # by content, whatever the suffix; Pillow knows some that start programs
MAX_ASPECT = 8  # beyond it the long side is cropped before resizing, or a 20,000 x 1 picture would become gigabytes


class UnreadableImage(Exception):
    """This file gives no pixels; its text says why."""


class Item(Protocol):
    """What an image is read from: a `Path`, or whatever opens as one. Its `str` begins with its list's root and tells
    it from all others there; it goes to the data-loading processes, so it pickles."""

    @property
    def name(self) -> str:
        """Short, for messages."""

    def open(self, mode: Any = "rb") -> IO[Any]:
        """Its bytes; anything may be raised if there are none."""


def name_below(item: Item, root: Path) -> str:
    """What names the item in its list wherever the list's root is moved to."""
    if isinstance(item, Path):
        return str(item.relative_to(root))
    return str(item).removeprefix(str(root)).lstrip("/")


def num_bytes(item: Item) -> int | None:
    """Stored size of an item, None if it is missing; the image itself is not read."""
    if isinstance(item, Path):
        return item.stat().st_size if item.is_file() else None
    return item.size  # type: ignore[attr-defined] # whatever is no file was listed with its size


def read_image(item: Item, image_size: int) -> Tensor:
    """Shorter side to S by bicubic resampling, centre crop: OpenCLIP's preprocessing.

    Grey, palette, CMYK, 16-bit and float pixels become 8-bit RGB, transparency is laid on white, the EXIF rotation is
    applied, and of an animation the first frame is taken. The suffix may be wrong.

    Args:
        item: an image file, or what opens as one.
        image_size: S.

    Returns:
        uint8 (3, S, S).

    Raises:
        UnreadableImage: corrupt, truncated, or more pixels than Pillow dares to decode (about 179 million).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures and odd metadata are not worth a line each
            with item.open("rb") as file, Image.open(file, formats=FORMATS) as image:
                rgb = to_rgb(upright(image))
            square = fit(rgb, image_size)
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{item.name}: UnidentifiedImageError: cannot identify an image in it") from error
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise UnreadableImage(f"{item.name}: {type(error).__name__}: {str(error)[:120]}") from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF block says; one that cannot be read says nothing, and the picture may still be good."""
    try:
        image.getexif()
    except Exception:  # as `Image.open`, it raises whatever it likes
        return image
    return ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any Pillow mode."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """16-bit grey by its high byte; floats in [0, 1] by 255; what already fits 8 bits stays."""
    top = values.max(initial=0)
    scale = 255.0 if values.dtype.kind == "f" and top <= 1 else 1 / 257 if top > 255 else 1.0
    return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)


def fit(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to `size`, centre crop."""
    width, height = image.size
    short = min(width, height)
    if max(width, height) > MAX_ASPECT * short:
        image = _centre(image, min(width, MAX_ASPECT * short), min(height, MAX_ASPECT * short))
        width, height = image.size
    if short != size:
        image = image.resize(
            (max(size, int(width * size / short)), max(size, int(height * size / short))), Image.Resampling.BICUBIC
        )
    return _centre(image, size, size)


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
