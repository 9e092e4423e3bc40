"""Images that a Python object holds: PIL images and tensors, and items that read them from a `Dataset`.

Legend: C channels, H W pixels, S side of the square in pixels.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from PIL import Image
from torch import Tensor

from seaanchor.data.images import UnreadableImage, flat, upright
from seaanchor.data.preprocessing import Preprocessing, preprocessing_of, to_square
from seaanchor.errors import SeaAnchorError

Picture: TypeAlias = "Image.Image | Tensor"


class MapStyle(Protocol):
    """A `torch.utils.data.Dataset` of map style, or whatever has a length and items by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class DatasetItem:
    """One image of a `Dataset`, read when it is asked for.

    Attributes:
        dataset: where it is.
        index: its number there.
        root: the name of the data set.
        digest: of a sample of its images, so that `str` differs for data sets of other images.
        size: bytes of an image's pixels, the mean of that sample.
    """

    dataset: MapStyle
    index: int
    root: Path
    digest: str
    size: int

    @property
    def name(self) -> str:
        """Short, for messages."""
        return f"image {self.index}"

    def __str__(self) -> str:
        return f"{self.root}/{self.digest}/{self.index}"

    def open(self, mode: str = "rb") -> io.BytesIO:
        """The image as the bytes of a PNG file, with 8 bits for each channel."""
        picture, _ = parts_of(self.dataset[self.index])
        stream = io.BytesIO()
        (picture if isinstance(picture, Image.Image) else _to_pil(check_tensor(picture))).save(stream, "PNG")
        stream.seek(0)
        return stream

    def pixels(self, how: int | Preprocessing) -> Tensor:
        """Pixels (3, S, S), as `to_pixels` gives them.

        Raises:
            UnreadableImage: the data set raises an error for this image, or gives something else.
        """
        try:
            return to_pixels(parts_of(self.dataset[self.index])[0], how)
        except Exception as error:  # the code of a data set raises whatever it likes
            reason = error.found if isinstance(error, SeaAnchorError) else f"{type(error).__name__}: {error}"
            raise UnreadableImage(f"{self.name}: {reason[:160]}") from error

    def content(self) -> bytes:
        """A hash of the pixels as the data set gives them."""
        return hashlib.sha256(raw_bytes(parts_of(self.dataset[self.index])[0])).digest()


def parts_of(sample: Any) -> tuple[Picture, Any]:
    """The image and the label (None if it has none) of what a `Dataset` gives for one index.

    Raises:
        SeaAnchorError: it is neither an image, nor a pair of image and label, nor a dictionary with an image.
    """
    if isinstance(sample, Mapping):
        picture, label = sample.get("image"), sample.get("label")
    elif isinstance(sample, tuple | list) and len(sample) == 2:
        picture, label = sample
    else:
        picture, label = sample, None
    if isinstance(picture, Image.Image | Tensor):
        return picture, label
    kind = type(sample).__name__
    if isinstance(sample, Mapping):
        kind = f"a dictionary of {', '.join(map(str, sample)) or 'nothing'}"
    elif isinstance(sample, tuple | list):
        kind = f"a {kind} of {', '.join(type(part).__name__ for part in sample) or 'nothing'}"
    raise SeaAnchorError(
        f"an item of the data set is {kind}",
        'a PIL image or a tensor (C, H, W), alone, as (image, label) or as {"image": ..., "label": ...}',
        "convert it in the data set's __getitem__, an array with PIL.Image.fromarray",
    )


def check_tensor(pixels_CHW: Tensor) -> Tensor:
    """The same pixels as uint8 or float32 of three channels.

    Raises:
        SeaAnchorError: another shape or number type, or floats outside [0, 1].
    """
    shape = tuple(pixels_CHW.shape)
    if len(shape) != 3 or shape[0] not in (1, 3):
        last = len(shape) == 3 and shape[2] in (1, 3)
        change = "put the channels first: image.permute(2, 0, 1)" if last else "convert it to RGB or grey"
        raise SeaAnchorError(f"an image is a tensor of shape {shape}", "(C, H, W) with C = 3 or 1", change)
    if pixels_CHW.dtype != torch.uint8:
        if not pixels_CHW.is_floating_point():
            raise SeaAnchorError(
                f"an image is a tensor of {pixels_CHW.dtype}",
                "uint8 in [0, 255] or floats in [0, 1]",
                "convert it, for instance with image.to(torch.uint8)",
            )
        low, high = pixels_CHW.min().item(), pixels_CHW.max().item()
        if not (low >= 0 and high <= 1):
            raise SeaAnchorError(
                f"an image has values from {low:.3g} to {high:.3g}",
                "floats in [0, 1]: normalisation belongs to the encoder, so that attacks act on pixels",
                "remove Normalize from the transforms; give mean and std to Encoder instead",
            )
        pixels_CHW = pixels_CHW.float()
    return pixels_CHW.detach().expand(3, -1, -1)


def to_pixels(picture: Picture, how: int | Preprocessing) -> Tensor:
    """Pixels (3, S, S) of an image: uint8, or float32 in [0, 1] of a float tensor that has this size already.

    A tensor of exactly S × S passes unchanged: it is what the data set's own transform made. Everything else goes the
    way of a file, on 8-bit pixels.

    Raises:
        SeaAnchorError: as `check_tensor`.
    """
    how = preprocessing_of(how)
    if isinstance(picture, Tensor):
        pixels_CHW = check_tensor(picture)
        if pixels_CHW.shape[1:] == (how.size, how.size):
            return pixels_CHW.contiguous()
        picture = _to_pil(pixels_CHW)
    picture.load()
    return to_square(flat(upright(picture)), how)


def _to_pil(pixels_CHW: Tensor) -> Image.Image:
    if pixels_CHW.is_floating_point():
        pixels_CHW = (pixels_CHW * 255).round().byte()
    return Image.fromarray(pixels_CHW.permute(1, 2, 0).contiguous().numpy())


def raw_bytes(picture: Picture) -> bytes:
    """An image's shape, number type and values."""
    if isinstance(picture, Image.Image):
        return f"{picture.mode} {picture.size} ".encode() + picture.tobytes()
    array = picture.detach().cpu().contiguous().numpy()
    return f"{array.dtype} {array.shape} ".encode() + array.tobytes()
