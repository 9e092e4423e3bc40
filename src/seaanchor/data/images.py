"""Any image file to RGB pixels as a model takes them.

Legend: S side of the square in pixels.
"""

import re
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from seaanchor.data.preprocessing import Preprocessing, preprocessing_of, to_square

_ENDINGS = """
.jpg .jpeg .jfif .jpe .jif .jfi .png .apng .webp .avif .bmp .dib .gif .tif .tiff .jp2 .j2k .jpf .jpx .jpc .j2c
.ppm .pgm .pbm .pnm
"""
EXTENSIONS = frozenset(_ENDINGS.split())
FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "GIF",
    "TIFF",
    "PPM",
    "JPEG2000",
    *(["AVIF"] if find_spec("PIL.AvifImagePlugin") else []),
)  # by content, whatever the suffix; Pillow knows some that start programs
BAND = 1 << 20  # pixels converted at a time
ORIENTATION = 0x0112  # EXIF's number of it
PILLOW = r"PIL\."  # whose warnings
_lock, _readers = threading.Lock(), 0


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


def read_image(item: Item, how: int | Preprocessing) -> Tensor:
    """Pixels of an image file as an encoder takes them.

    16-bit and float pixels become 8-bit ones, transparency is laid on white, the EXIF rotation is applied, and of an
    animation the first frame is taken. The suffix may be wrong.

    Args:
        item: an image file, or what opens as one.
        how: the encoder's preprocessing, or S: shorter side to S by bicubic resampling, centre crop.

    Returns:
        uint8 (3, S, S).

    Raises:
        UnreadableImage: corrupt, truncated, or more pixels than Pillow dares to decode (about 179 million).
    """
    with _decoded(item) as image:
        return to_square(image, preprocessing_of(how))


def read_picture(item: Item) -> Image.Image:
    """An image file as a picture in RGB of its own size; what is read and what is raised is as for `read_image`."""
    with _decoded(item) as image:
        return image.convert("RGB")


@contextmanager
def _decoded(item: Item) -> Iterator[Image.Image]:
    """The picture of an image file, upright, of 8 bits and without transparency; what fails inside is its fault."""
    try:
        with quiet_pillow(), item.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if image.format == "PNG":
                check_png(file)
            image.load()  # before the orientation is asked for: that decodes, and hides what fails
            yield flat(upright(image))
    except UnidentifiedImageError as error:
        raise UnreadableImage(f"{item.name}: UnidentifiedImageError: cannot identify an image in it") from error
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise UnreadableImage(f"{item.name}: {type(error).__name__}: {str(error)[:120]}") from error


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Large pictures and odd metadata are not worth a line each. Python's own `catch_warnings` is not for threads: each
    would bring back what another has changed."""
    global _readers
    with _lock:
        if _readers == 0:
            warnings.filterwarnings("ignore", module=PILLOW)
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0:
                ours = ("ignore", None, Warning, re.compile(PILLOW), 0)
                filters = cast(list[Any], warnings.filters)
                filters[:] = [other for other in filters if other != ours]


def check_png(file: IO[Any]) -> None:
    """Raise an OSError if a PNG's pixels are not what was written, by their checksums, which decoders skip; a flipped
    bit may otherwise give a picture. The place in the file stays."""
    place = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8 and (kind := head[4:]) != b"IEND":
        length = int.from_bytes(head[:4], "big")
        if kind != b"IDAT":
            file.seek(length + 4, 1)
            continue
        data, checksum = file.read(length), file.read(4)
        if len(checksum) == 4 and zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
            raise OSError("a checksum of its pixels is wrong")
    file.seek(place)


def upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF block says, itself if there is nothing to turn; a block that cannot be read says nothing, and
    the picture may still be good."""
    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
    except Exception:  # as `Image.open`, it raises whatever it likes
        return image
    return ImageOps.exif_transpose(image) if turned else image


def flat(image: Image.Image) -> Image.Image:
    """8 bits for each channel and no transparency, otherwise in its own mode; a band of rows at a time, or a picture
    would take many times its pixels' memory."""
    if image.mode.startswith("I") or image.mode == "F":
        top: Any = np.max([np.asarray(part).max(initial=0) for _, part in _bands(image)])
        return _joined("L", image.size, ((row, _to_8_bit(np.asarray(part), top)) for row, part in _bands(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        return _joined("RGB", image.size, ((row, _on_white(part)) for row, part in _bands(image)))
    return image


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The first row of each band, and the band."""
    rows = max(1, BAND // image.width)
    for row in range(0, image.height, rows):
        yield row, image.crop((0, row, image.width, min(row + rows, image.height)))


def _joined(mode: str, size: tuple[int, int], bands: Iterable[tuple[int, Image.Image]]) -> Image.Image:
    whole = Image.new(mode, size)
    for row, part in bands:
        whole.paste(part, (0, row))
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _to_8_bit(values: np.ndarray, top: Any) -> Image.Image:
    """16-bit grey by its high byte; floats in [0, 1] by 255; what already fits 8 bits stays. `top` is the picture's
    largest value."""
    scale = 255.0 if values.dtype.kind == "f" and top <= 1 else 1 / 257 if top > 255 else 1.0
    with np.errstate(invalid="ignore"):  # NaN becomes some level
        return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
