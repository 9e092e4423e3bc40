"""Words drawn on images: glyph masks, and the colours they are drawn in.

Legend: B batch, H W pixels; a mask is uint8 (2, H, W), fill and fill with outline, 0 to 255.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seaanchor.attacks.fonts import composed, font_face, font_files, fonts_with
from seaanchor.errors import SeaAnchorError

COLOURS = {
    "white": (255, 255, 255),
    "blue": (0, 0, 255),
    "green": (0, 128, 0),
    "red": (255, 0, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "yellow": (255, 255, 0),
    "black": (0, 0, 0),
}

SMALLEST = 6  # pixels: below it nobody reads anything

Box = tuple[int, int, int, int]
ImageSize = int | tuple[int, int]
"""Side of a square image in pixels, or width and height."""


@dataclass(frozen=True)
class Drawing:
    """A word ready to be drawn on an image: mask, its box (left, top, right, bottom) in pixels, colours, font file and
    size."""

    text: str
    mask: np.ndarray
    box: Box
    fill: str
    stroke: str
    font: str
    size: int


def break_lines(text: str) -> str:
    """Two or three words break after the first; longer texts also after the second (Azuma & Matsui 2023,
    Defense-Prefix)."""
    first, *rest = text.split()
    if len(rest) < 3:
        return "\n".join([first, " ".join(rest)]).strip()
    return "\n".join([first, rest[0], " ".join(rest[1:])])


def draw_word(
    text: str, font: Path, size: int, image_size: ImageSize, rng: random.Random, stroke: int = 1
) -> tuple[np.ndarray, Box]:
    """Draw `text` at a uniform position, shrunk until it fits.

    Args:
        text: what to draw; long texts are broken into lines.
        font: a font file.
        size: glyph height in pixels to start from.
        image_size: side of the canvas in pixels, or its width and height.
        rng: draws the position.
        stroke: width of the outline in pixels.

    Returns:
        Mask uint8 (2, H, W) and the text box.

    Raises:
        SeaAnchorError: the text does not fit even at the smallest size.
    """
    lines, size = lay_out(text, font, size, image_size, stroke)
    face = font_face(font, size)
    left, top, right, bottom = _bounds(lines, face, stroke)
    width, height = _canvas(image_size)
    x = rng.uniform(0, max(0, width - (right - left))) - left
    y = rng.uniform(0, max(0, height - (bottom - top))) - top
    masks = []
    for outline in (0, stroke):
        canvas = Image.new("L", (width, height))
        ImageDraw.Draw(canvas).multiline_text(
            (x, y), lines, fill=255, font=face, stroke_width=outline, spacing=1, align="center"
        )
        masks.append(np.asarray(canvas))
    box = (round(x + left), round(y + top), round(x + right), round(y + bottom))
    return np.stack(masks), box


def random_drawing(
    text: str,
    image_size: ImageSize,
    rng: random.Random,
    *,
    fonts: str,
    sizes: tuple[float, float],
    stroke: int = 1,
    font: Path | None = None,
) -> Drawing:
    """Draw a word the way the field does: font, size, position and two different colours at random.

    Args:
        text: the word.
        image_size: side of the image in pixels, or its width and height.
        rng: decides everything.
        fonts: which ones, `train` or `unseen`.
        sizes: smallest and largest glyph height as a share of the image's shorter side.
        stroke: width of the outline in pixels.
        font: a font file, in place of a random one.

    Raises:
        SeaAnchorError: no font has all characters, or the word does not fit even at the smallest size.
    """
    if font is None:
        able = fonts_with(text, fonts)
        font = rng.choice(font_files(fonts))
        if font not in able:
            font = rng.choice(able)
    _, size = lay_out(text, font, round(rng.uniform(*sizes) * min(_canvas(image_size))), image_size, stroke)
    mask, box = draw_word(text, font, size, image_size, rng, stroke)
    fill, edge = rng.sample(sorted(COLOURS), 2)
    return Drawing(text, mask, box, fill, edge, font.name, size)


def lay_out(text: str, font: Path, size: int, image_size: ImageSize, stroke: int = 1) -> tuple[str, int]:
    """Lines, and the largest glyph height up to `size`, but at least 6 pixels, at which they fit the canvas.

    What does not fit at 6 pixels is broken into more lines, between words where it can be and inside them where it
    must.

    Raises:
        SeaAnchorError: even so it does not fit.
    """
    text = composed(text)
    lines = break_lines(text)
    for height in range(max(size, SMALLEST), SMALLEST - 1, -1):
        if _fits(lines, font_face(font, height), image_size, stroke):
            return lines, height
    lines = _wrap(
        text, font_face(font, SMALLEST), _canvas(image_size)[0] - 1, stroke
    )  # centred lines may stick out by a rounded half pixel
    if not _fits(lines, font_face(font, SMALLEST), image_size, stroke):
        width, height = _canvas(image_size)
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise SeaAnchorError(
            f"{shown!r} does not fit an image of {width} x {height} pixels, not even in glyphs of "
            f"{SMALLEST} pixels of {font.name}",
            "a shorter name or a larger image",
            "rename the class with --class-names, or choose larger images",
        )
    return lines, SMALLEST


def check_drawable(texts: Sequence[str], fonts: str, image_size: ImageSize) -> None:
    """Fail before work begins rather than at the first unlucky draw.

    Raises:
        SeaAnchorError: a text that a font it may be drawn with cannot draw on an image of this size.
    """
    for text in texts:
        for font in fonts_with(text, fonts):
            lay_out(text, font, SMALLEST, image_size)


def _wrap(text: str, face: ImageFont.FreeTypeFont, width: int, stroke: int) -> str:
    """As many characters on each line as fit its width; a word is only cut where it would not fit a line of its own."""
    done: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}".strip()
        if _width(joined, face, stroke) <= width:
            line = joined
            continue
        done, line = ([*done, line] if line else done), ""
        for character in word:
            if line and _width(line + character, face, stroke) > width:
                done, line = [*done, line], ""
            line += character
    return "\n".join([*done, line])


def _width(line: str, face: ImageFont.FreeTypeFont, stroke: int) -> float:
    left, _, right, _ = _bounds(line, face, stroke)
    return right - left


def _fits(lines: str, face: ImageFont.FreeTypeFont, image_size: ImageSize, stroke: int) -> bool:
    left, top, right, bottom = _bounds(lines, face, stroke)
    width, height = _canvas(image_size)
    return right - left <= width and bottom - top <= height


def _canvas(image_size: ImageSize) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def _bounds(lines: str, face: ImageFont.FreeTypeFont, stroke: int) -> tuple[float, float, float, float]:
    return ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
        (0, 0), lines, font=face, stroke_width=stroke, spacing=1
    )


def scramble(drawing: Drawing, rng: random.Random, width: int = 2) -> Drawing:
    """The same box, colours and amount of ink, but unreadable: columns of the box are shuffled in strips and half of
    them turned over.

    Accuracy under it is the ceiling of any cure, for what is merely covered cannot be won back.
    """
    height, side = drawing.mask.shape[1:]
    left, top, right, bottom = (
        min(max(v, 0), limit) for v, limit in zip(drawing.box, (side, height, side, height), strict=True)
    )
    inside = drawing.mask[:, top:bottom, left:right]
    strips = [inside[..., i : i + width] for i in range(0, inside.shape[-1], width)]
    rng.shuffle(strips)
    strips = [strip[:, ::-1] if rng.random() < 0.5 else strip for strip in strips]
    mask = drawing.mask.copy()
    if strips:
        mask[:, top:bottom, left:right] = np.concatenate(strips, axis=-1)
    return replace(drawing, mask=mask)


def draw_on(pixels_HWC: np.ndarray, drawing: Drawing) -> np.ndarray:
    """The image with the word on it, uint8 (H, W, 3)."""
    inner, outer = (drawing.mask[i, ..., None].astype(np.float32) / 255 for i in (0, 1))
    fill, stroke = (np.array(COLOURS[name], np.float32) for name in (drawing.fill, drawing.stroke))
    drawn = pixels_HWC * (1 - outer) + stroke * outer
    return np.rint(drawn * (1 - inner) + fill * inner).astype(np.uint8)
