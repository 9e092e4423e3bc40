"""How a picture becomes the square that an encoder was trained on: resizing, cropping, padding.

Legend: S side of the square in pixels, C channels, H W pixels.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seaanchor.data.resampling import resized_square
from seaanchor.errors import SeaAnchorError

ResizeMode = Literal["shortest", "longest", "squash", "none"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"]
Crop = Literal["round", "down"]
Colours = Literal["own", "rgb"]
Backend = Literal["pillow", "torchvision"]
Fill = int | tuple[int, int, int]

CHOICES = {
    "resize_mode": get_args(ResizeMode),
    "interpolation": get_args(Interpolation),
    "crop": get_args(Crop),
    "colours": get_args(Colours),
    "backend": get_args(Backend),
}
RESIZED = {
    "shortest": "shorter side resized to {side} pixels ({filter})",
    "longest": "longer side resized to {side} pixels ({filter})",
    "squash": "resized to {side} × {side} pixels ({filter}), whatever the proportions",
    "none": "not resized",
}
MAX_ASPECT, LARGEST = 8, 2**24
"""A picture is resized as a whole if it is at most this many times as long as wide, or gets at most this many pixels.
Of a longer one the middle is cropped before that, or 20,000 x 1 would become gigabytes."""


@dataclass(frozen=True)
class Preprocessing:
    """Any picture → uint8 (3, S, S). Mean and std are not here: they belong to `Encoder`, as attacks act on pixels.

    Attributes:
        size: S, the side that the encoder takes.
        resize_mode: what becomes `resize_size` long: the `shortest` side, the `longest`, both (`squash`, which changes
            the proportions), or `none`.
        interpolation: of the resizing.
        resize_size: side in pixels before the centre crop to S; None is S. What is smaller than S then is padded.
        fill: value in [0, 255] of the padding, for all channels or for red, green and blue.
        crop: where the crop begins if as many pixels cannot go on both sides: half a pixel rounded to even (`round`),
            or down.
        colours: resized as stored (`own`: palettes by nearest neighbour, CMYK in CMYK) and converted to RGB afterwards,
            as OpenCLIP does, or converted first (`rgb`), as timm and Hugging Face do.
        backend: `pillow`, or `torchvision` on uint8 tensors, whose values can differ in the last bit.

    Raises:
        SeaAnchorError: a size below 1, a fill outside [0, 255], or an unknown choice.
    """

    size: int
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    resize_size: int | None = None
    fill: Fill = 0
    crop: Crop = "round"
    colours: Colours = "own"
    backend: Backend = "pillow"

    def __post_init__(self) -> None:
        for name, side in (("size", self.size), ("resize_size", 1 if self.resize_size is None else self.resize_size)):
            if isinstance(side, bool) or not isinstance(side, int) or side < 1:
                raise SeaAnchorError(f"{name} is {side!r}", "a side in pixels, such as 224", "correct it")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise SeaAnchorError(f"{name} is {getattr(self, name)!r}", f"one of {', '.join(known)}", "correct it")
        levels = self.fill if isinstance(self.fill, tuple) else (self.fill,) * 3
        if len(levels) != 3 or not all(type(level) is int and 0 <= level <= 255 for level in levels):
            raise SeaAnchorError(f"fill is {self.fill!r}", "one level in [0, 255], or three", "correct it")
        if self.resize_size == self.size:
            object.__setattr__(self, "resize_size", None)  # one way to say it, so that equal ones compare as equal
        if isinstance(self.fill, tuple) and self.colours == "own":
            raise SeaAnchorError(
                f"fill is {self.fill} and colours are converted after the padding",
                "one level for all channels of whatever a picture is stored in",
                "give one level, or colours=rgb",
            )

    def __str__(self) -> str:
        """All that differs from OpenCLIP's default, and the size."""
        said = [f"size={self.size}"]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                said.append(f"{field.name}={'/'.join(map(str, value)) if isinstance(value, tuple) else value}")
        return ",".join(said)

    @property
    def words(self) -> str:
        """The same for people.

        >>> Preprocessing(64, resize_size=67, colours="rgb").words
        'shorter side resized to 67 pixels (bicubic), centre crop to 64 × 64, colours converted to RGB before'
        """
        side, square = self.resize_size or self.size, f"{self.size} × {self.size}"
        resized = RESIZED[self.resize_mode].format(side=side, filter=self.interpolation)
        crops = self.resize_mode in ("shortest", "none") or side > self.size
        pads = self.resize_mode in ("longest", "none") or side < self.size
        level = "/".join(map(str, self.fill)) if isinstance(self.fill, tuple) else str(self.fill)
        said = [
            resized,
            f"centre crop to {square}" + (" (its corner rounded down)" if self.crop == "down" else "") if crops else "",
            f"padded to {square} with the level {level}" if pads else "",
            "colours converted to RGB before" if self.colours == "rgb" else "",
            "by torchvision" if self.backend == "torchvision" else "",
        ]
        return ", ".join(filter(None, said))


def preprocessing_of(how: int | Preprocessing) -> Preprocessing:
    """OpenCLIP's default for a side in pixels: shorter side to S by bicubic resampling, centre crop."""
    return how if isinstance(how, Preprocessing) else Preprocessing(how)


def to_square(image: Image.Image, how: Preprocessing) -> Tensor:
    """A picture of 8 bits without transparency, in any Pillow mode → uint8 (3, S, S)."""
    if image.mode != "RGB" and (how.colours == "rgb" or how.backend == "torchvision"):
        image = image.convert("RGB")  # of an RGB picture it would be a copy
    image = _within_aspect(image, how)
    width, height = _resized(image.size, how)
    if how.backend == "torchvision":
        return _by_torchvision(image, (width, height), how)
    corner = _offset(width, how), _offset(height, how)
    square = resized_square(image, (width, height), corner, how.size, how.interpolation)
    if square is not None:
        return square
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[how.interpolation.upper()])
    image = _crop(_pad(image, how), how)
    return _tensor(image.convert("RGB"))


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def _within_aspect(image: Image.Image, how: Preprocessing) -> Image.Image:
    """The middle of a picture that is very long, where all but its middle would be resized for nothing."""
    long = min(image.size) * max(MAX_ASPECT, LARGEST // (how.resize_size or how.size) ** 2)
    if how.resize_mode != "shortest" or max(image.size) <= long:
        return image
    width, height = (min(side, long) for side in image.size)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _resized(size: tuple[int, int], how: Preprocessing) -> tuple[int, int]:
    """Width and height before cropping and padding."""
    side, (width, height) = how.resize_size or how.size, size
    if how.resize_mode == "none":
        return size
    if how.resize_mode == "squash":
        return side, side
    if how.resize_mode == "longest":
        ratio = max(width / side, height / side)
        return max(1, round(width / ratio)), max(1, round(height / ratio))
    short = min(size)
    return (side, int(side * height / width)) if width == short else (int(side * width / height), side)


def _pad(image: Image.Image, how: Preprocessing) -> Image.Image:
    """Centred on a square of at least S, where a side is shorter."""
    width, height = max(image.width, how.size), max(image.height, how.size)
    if (width, height) == image.size:
        return image
    bands = len(image.getbands())
    colour = how.fill if isinstance(how.fill, tuple) or bands == 1 else (how.fill,) * bands
    canvas = Image.new(image.mode, (width, height), colour)
    if image.mode == "P":
        canvas.putpalette(image.getpalette() or [])
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas


def _crop(image: Image.Image, how: Preprocessing) -> Image.Image:
    left, top = _offset(image.width, how), _offset(image.height, how)
    return image.crop((left, top, left + how.size, top + how.size))


def _offset(side: int, how: Preprocessing) -> int:
    spare = (side - how.size) / 2
    return round(spare) if how.crop == "round" else int(spare)


def _by_torchvision(image: Image.Image, size: tuple[int, int], how: Preprocessing) -> Tensor:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    pixels_CHW = _tensor(image)
    if size != image.size:
        mode = InterpolationMode[how.interpolation.upper()]
        pixels_CHW = functional.resize(pixels_CHW, [size[1], size[0]], interpolation=mode, antialias=True)
    height, width = pixels_CHW.shape[1:]
    spare_H, spare_W = max(0, how.size - height), max(0, how.size - width)
    if spare_H or spare_W:
        margins = [spare_W // 2, spare_H // 2, (spare_W + 1) // 2, (spare_H + 1) // 2]
        fill = list(how.fill) if isinstance(how.fill, tuple) else how.fill
        pixels_CHW = functional.pad(pixels_CHW, margins, fill=fill)
    top, left = _offset(pixels_CHW.shape[1], how), _offset(pixels_CHW.shape[2], how)
    return pixels_CHW[:, top : top + how.size, left : left + how.size].contiguous()
