"""Words drawn on images: the shipped fonts, glyph masks, and the colours they are laid on with.

Legend: B batch, H W pixels; a mask is uint8 (2, H, W), fill and fill with outline, 0 to 255.
"""

import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from seaanchor.errors import SeaAnchorError

FONTS = Path(str(files("seaanchor"))) / "zoo" / "fonts"
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


@dataclass(frozen=True)
class Lettering:
    """A word ready to be laid on an image: mask, its box (left, top, right, bottom) in pixels, colours, font file and
    size."""

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
def glyphs(font: Path) -> frozenset[str]:
    """Characters a font has a glyph for; what it lacks Pillow would draw as an empty box."""
    from matplotlib.ft2font import FT2Font  # Pillow does not tell

    return frozenset(map(chr, FT2Font(str(font)).get_charmap()))


@cache
def fonts_with(text: str, kind: str) -> tuple[Path, ...]:
    """The fonts of one kind that have every character of `text`.

    Raises:
        SeaAnchorError: none has, or there is nothing to draw.
    """
    characters = set("".join(composed(text).split()))
    if not characters:
        raise SeaAnchorError(
            f"the word {text!r} has nothing to draw", "a name with letters", "rename the class with --class-names"
        )
    if not font_files(kind):
        raise SeaAnchorError(f"no fonts are called {kind!r}", "train or unseen", "correct the fonts")
    able = tuple(file for file in font_files(kind) if characters <= glyphs(file))
    if not able:
        lacking = min((characters - glyphs(file) for file in font_files(kind)), key=len)
        named = ", ".join(f"{c!r} ({unicodedata.name(c, 'no name')})" for c in sorted(lacking)[:5])
        raise SeaAnchorError(
            f"no font of {kind!r} can draw {text!r}: {named}",
            "characters of the shipped fonts, which are Latin and in part Greek and Cyrillic",
            "rename the class with --class-names",
        )
    return able


def composed(text: str) -> str:
    """Letter and accent as one character, as fonts hold them; file names of some systems keep them apart."""
    return unicodedata.normalize("NFC", text)


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


def break_lines(text: str) -> str:
    """Two or three words break after the first; longer texts also after the second (Azuma & Matsui 2023,
    Defense-Prefix)."""
    first, *rest = text.split()
    if len(rest) < 3:
        return "\n".join([first, " ".join(rest)]).strip()
    return "\n".join([first, rest[0], " ".join(rest[1:])])


def draw_word(
    text: str, font: Path, size: int, image_size: int, rng: random.Random, stroke: int = 1
) -> tuple[np.ndarray, Box]:
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

    Raises:
        SeaAnchorError: the text does not fit even at the smallest size.
    """
    lines, size = lay_out(text, font, size, image_size, stroke)
    face = _font(font, size)
    left, top, right, bottom = _bounds(lines, face, stroke)
    x = rng.uniform(0, max(0, image_size - (right - left))) - left
    y = rng.uniform(0, max(0, image_size - (bottom - top))) - top
    masks = []
    for width in (0, stroke):
        canvas = Image.new("L", (image_size, image_size))
        ImageDraw.Draw(canvas).multiline_text(
            (x, y), lines, fill=255, font=face, stroke_width=width, spacing=1, align="center"
        )
        masks.append(np.asarray(canvas))
    box = (round(x + left), round(y + top), round(x + right), round(y + bottom))
    return np.stack(masks), box


def letter(
    text: str, image_size: int, rng: random.Random, *, fonts: str, sizes: tuple[float, float], stroke: int = 1
) -> Lettering:
    """Draw a word the way the field does: font, size, position and two different colours at random.

    Args:
        text: the word.
        image_size: side of the image in pixels.
        rng: decides everything.
        fonts: which ones, `train` or `unseen`.
        sizes: smallest and largest glyph height as a share of the image's side.
        stroke: width of the outline in pixels.

    Raises:
        SeaAnchorError: no font has all characters, or the word does not fit even at the smallest size.
    """
    able = fonts_with(text, fonts)
    font = rng.choice(font_files(fonts))
    if font not in able:
        font = rng.choice(able)
    _, size = lay_out(text, font, round(rng.uniform(*sizes) * image_size), image_size, stroke)
    mask, box = draw_word(text, font, size, image_size, rng, stroke)
    fill, edge = rng.sample(sorted(COLOURS), 2)
    return Lettering(text, mask, box, fill, edge, font.name, size)


def lay_out(text: str, font: Path, size: int, image_size: int, stroke: int = 1) -> tuple[str, int]:
    """Lines, and the largest glyph height up to `size`, but at least 6 pixels, at which they fit the canvas.

    What does not fit at 6 pixels is broken into more lines, between words where it can be and inside them where it
    must.

    Raises:
        SeaAnchorError: even so it does not fit.
    """
    text = composed(text)
    lines = break_lines(text)
    for height in range(max(size, SMALLEST), SMALLEST - 1, -1):
        if _fits(lines, _font(font, height), image_size, stroke):
            return lines, height
    lines = _wrap(
        text, _font(font, SMALLEST), image_size - 1, stroke
    )  # centred lines may stick out by a rounded half pixel
    if not _fits(lines, _font(font, SMALLEST), image_size, stroke):
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise SeaAnchorError(
            f"{shown!r} does not fit an image of {image_size} x {image_size} pixels, not even in glyphs of "
            f"{SMALLEST} pixels of {font.name}",
            "a shorter name or a larger image",
            "rename the class with --class-names, or choose larger images",
        )
    return lines, SMALLEST


def check_drawable(texts: Sequence[str], fonts: str, image_size: int) -> None:
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


def _fits(lines: str, face: ImageFont.FreeTypeFont, image_size: int, stroke: int) -> bool:
    left, top, right, bottom = _bounds(lines, face, stroke)
    return right - left <= image_size and bottom - top <= image_size


def _bounds(lines: str, face: ImageFont.FreeTypeFont, stroke: int) -> tuple[float, float, float, float]:
    return ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox(
        (0, 0), lines, font=face, stroke_width=stroke, spacing=1
    )


def scramble(lettering: Lettering, rng: random.Random, width: int = 2) -> Lettering:
    """The same box, colours and amount of ink, but unreadable: columns of the box are shuffled in strips and half of
    them turned over.

    Accuracy under it is the ceiling of any cure, for what is merely covered cannot be won back.
    """
    height, side = lettering.mask.shape[1:]
    left, top, right, bottom = (
        min(max(v, 0), limit) for v, limit in zip(lettering.box, (side, height, side, height), strict=True)
    )
    inside = lettering.mask[:, top:bottom, left:right]
    strips = [inside[..., i : i + width] for i in range(0, inside.shape[-1], width)]
    rng.shuffle(strips)
    strips = [strip[:, ::-1] if rng.random() < 0.5 else strip for strip in strips]
    mask = lettering.mask.copy()
    if strips:
        mask[:, top:bottom, left:right] = np.concatenate(strips, axis=-1)
    return Lettering(
        lettering.text, mask, lettering.box, lettering.fill, lettering.stroke, lettering.font, lettering.size
    )


def lay_on(pixels_HWC: np.ndarray, lettering: Lettering) -> np.ndarray:
    """The image with the word on it, uint8 (H, W, 3)."""
    inner, outer = (lettering.mask[i, ..., None].astype(np.float32) / 255 for i in (0, 1))
    fill, stroke = (np.array(COLOURS[name], np.float32) for name in (lettering.fill, lettering.stroke))
    lettered = pixels_HWC * (1 - outer) + stroke * outer
    return np.rint(lettered * (1 - inner) + fill * inner).astype(np.uint8)
