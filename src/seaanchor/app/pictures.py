"""Pictures of the page: what was uploaded, what is offered, and what a model sees of it.

Legend: C channels, H W pixels.
"""

import base64
import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from seaanchor.app.models import Player
from seaanchor.app.settings import MOST_BYTES
from seaanchor.attacks import typographic
from seaanchor.data.images import UnreadableImage, read_picture
from seaanchor.data.preprocessing import to_square
from seaanchor.errors import SeaAnchorError

MOST_PIXELS = 50_000_000  # of an upload
LONGEST_WORD = 60  # characters
WORD_SIZE = (28 / 224, 48 / 224)  # of the page, so that it can be read at 64 pixels


def read_upload(path: str | Path) -> Image.Image:
    """The middle square of an uploaded picture in RGB.

    Raises:
        SeaAnchorError: it is no picture, broken, or has more than 50 million pixels or 25 million bytes.
    """
    file = Path(path)
    try:
        if file.stat().st_size > MOST_BYTES:
            found = f"a file of {file.stat().st_size / 1e6:.0f} MB"
            raise SeaAnchorError(found, f"at most {MOST_BYTES / 1e6:.0f} MB", "choose a smaller picture")
        _check_size(file)
        return square(read_picture(file))
    except (UnreadableImage, OSError) as error:
        expected = "a whole JPEG, PNG, WebP, GIF, TIFF or BMP file"
        raise SeaAnchorError(f"the picture could not be read: {error}", expected, "choose another picture") from error


def square(picture: Image.Image) -> Image.Image:
    """The middle of a picture, as high as wide: a word on it is then seen by every model.

    >>> square(Image.new("RGB", (300, 200))).size
    (200, 200)
    """
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def lettered(picture: Image.Image, word: str, seed: int) -> Image.Image:
    """The picture with a word drawn on it; as it is where there is no word.

    Args:
        picture: in RGB.
        word: what to draw.
        seed: of font, place, size and colours.

    Raises:
        SeaAnchorError: the word is longer than 60 characters, or no font can draw it.
    """
    word = " ".join(word.split())
    if len(word) > LONGEST_WORD:
        raise SeaAnchorError(f"a word of {len(word)} characters", f"at most {LONGEST_WORD}", "shorten it")
    return typographic(picture, word, seed, size=WORD_SIZE) if word else picture


def pixels_of(player: Player, picture: Image.Image) -> Tensor:
    """What a model sees of a picture: pixels (1, C, H, W) in [0, 1] at its own size."""
    return to_square(picture, player.model.encoder.preprocessing)[None].to(player.device).float() / 255


def data_address(pixels_CHW: Tensor) -> str:
    """Pixels (3, H, W) in [0, 1] as the address of a PNG that needs no server."""
    levels = (pixels_CHW.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _check_size(file: Path) -> None:
    """By its header alone: decoding is what takes the memory."""
    try:
        with Image.open(file) as image:
            width, height = image.size
    except Exception:  # what is wrong with it, reading it says
        return
    if width * height > MOST_PIXELS:
        found = f"a picture of {width:,} x {height:,} pixels"
        raise SeaAnchorError(found, f"at most {MOST_PIXELS / 1e6:.0f} million pixels", "make it smaller")
