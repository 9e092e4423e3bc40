"""Words drawn on images: the shipped fonts, glyph masks, and the colours they are laid on with.

Legend: B batch, H W pixels; a mask is uint8 (2, H, W), fill and fill with outline, 0 to 255.
"""

import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(str(files("seaanchor"))) / "zoo" / "fonts"
COLOURS = {
    "white": (255, 255, 255), "blue": (0, 0, 255), "green": (0, 128, 0), "red": (255, 0, 0),
    "magenta": (255, 0, 255), "cyan": (0, 255, 255), "yellow": (255, 255, 0), "black": (0, 0, 0),
}  # fmt: skip

SMALLEST = 6  # pixels: below it nobody reads anything

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Lettering:
    """A word ready to be laid on an image: mask, its box (left, top, right, bottom) in pixels, colours, font file and size."""

    text: str
    mask: np.ndarray
    box: Box
    fill: str
    stroke: str
    font: str
    size: int


@cache
def font_files(kind: str) -> tuple[Path, ...]:
    """Font files of one kind: `train` is what the embedded model and preference training saw, `unseen` is for tests."""
    return tuple(sorted((FONTS / kind).glob("*.?tf")))


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


def break_lines(text: str) -> str:
    """Two or three words break after the first; longer texts also after the second (Azuma & Matsui 2023, Defense-Prefix)."""
    first, *rest = text.split()
    if len(rest) < 3:
        return "\n".join([first, " ".join(rest)]).strip()
    return "\n".join([first, rest[0], " ".join(rest[1:])])


def draw_word(text: str, font: Path, size: int, image_size: int, rng: random.Random, stroke: int = 1) -> tuple[np.ndarray, Box]:
    """Draw `text` at a uniform position, shrunk until it fits.

    Args:
        text: what to draw; long texts are broken into lines.
        font: a font file.
        size: glyph height in pixels to start from.
        image_size: side of the square canvas in pixels.
        rng: draws the position.
        stroke: width of the outline in pixels.

    Returns:
        Mask uint8 (2, H, W) and the text box.
    """
    lines = break_lines(text)
    face = _font(font, fitting_size(text, font, size, image_size, stroke))
    left, top, right, bottom = _bounds(lines, face, stroke)
    x = rng.uniform(0, max(0, image_size - (right - left))) - left
    y = rng.uniform(0, max(0, image_size - (bottom - top))) - top
    masks = []
    for width in (0, stroke):
        canvas = Image.new("L", (image_size, image_size))
        ImageDraw.Draw(canvas).multiline_text((x, y), lines, fill=255, font=face, stroke_width=width, spacing=1, align="center")
        masks.append(np.asarray(canvas))
    box = (round(x + left), round(y + top), round(x + right), round(y + bottom))
    return np.stack(masks), box


def letter(text: str, image_size: int, rng: random.Random, *, fonts: str, sizes: tuple[float, float], stroke: int = 1) -> Lettering:
    """Draw a word the way the field does: font, size, position and two different colours at random.

    Args:
        text: the word.
        image_size: side of the image in pixels.
        rng: decides everything.
        fonts: which ones, `train` or `unseen`.
        sizes: smallest and largest glyph height as a share of the image's side.
        stroke: width of the outline in pixels.
    """
    font = rng.choice(font_files(fonts))
    size = fitting_size(text, font, max(SMALLEST, round(rng.uniform(*sizes) * image_size)), image_size, stroke)
    mask, box = draw_word(text, font, size, image_size, rng, stroke)
    fill, edge = rng.sample(sorted(COLOURS), 2)
    return Lettering(text, mask, box, fill, edge, font.name, size)


def fitting_size(text: str, font: Path, size: int, image_size: int, stroke: int = 1) -> int:
    """The largest glyph height up to `size` at which the text fits the canvas, at least 6 pixels."""
    while size > SMALLEST:
        left, top, right, bottom = _bounds(break_lines(text), _font(font, size), stroke)
        if right - left <= image_size and bottom - top <= image_size:
            break
        size -= 1
    return size


def _bounds(lines: str, face: ImageFont.FreeTypeFont, stroke: int) -> tuple[float, float, float, float]:
    return ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), lines, font=face, stroke_width=stroke, spacing=1)


def scramble(lettering: Lettering, rng: random.Random, width: int = 2) -> Lettering:
    """The same box, colours and amount of ink, but unreadable: columns of the box are shuffled in strips and half of them turned over.

    Accuracy under it is the ceiling of any cure, for what is merely covered cannot be won back.
    """
    height, side = lettering.mask.shape[1:]
    left, top, right, bottom = (min(max(v, 0), limit) for v, limit in zip(lettering.box, (side, height, side, height), strict=True))
    inside = lettering.mask[:, top:bottom, left:right]
    strips = [inside[..., i : i + width] for i in range(0, inside.shape[-1], width)]
    rng.shuffle(strips)
    strips = [strip[:, ::-1] if rng.random() < 0.5 else strip for strip in strips]
    mask = lettering.mask.copy()
    if strips:
        mask[:, top:bottom, left:right] = np.concatenate(strips, axis=-1)
    return Lettering(lettering.text, mask, lettering.box, lettering.fill, lettering.stroke, lettering.font, lettering.size)


def lay_on(pixels_HWC: np.ndarray, lettering: Lettering) -> np.ndarray:
    """The image with the word on it, uint8 (H, W, 3)."""
    inner, outer = (lettering.mask[i, ..., None].astype(np.float32) / 255 for i in (0, 1))
    fill, stroke = (np.array(COLOURS[name], np.float32) for name in (lettering.fill, lettering.stroke))
    lettered = pixels_HWC * (1 - outer) + stroke * outer
    return np.rint(lettered * (1 - inner) + fill * inner).astype(np.uint8)
