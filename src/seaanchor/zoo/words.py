"""Words as pictures: the fonts that ship with the package, and glyph masks drawn with them.

Legend: N masks, H W pixels.
"""

import random
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(str(files("seaanchor.zoo")))


@cache
def fonts(split: str) -> tuple[Path, ...]:
    """Font files of a split: `train` is what the embedded model and preference training saw, `unseen` is for tests."""
    return tuple(sorted((ROOT / "fonts" / split).glob("*.?tf")))


@cache
def _font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


@cache
def common_words() -> tuple[str, ...]:
    """Lower-case English words of 3 to 10 letters (from CLDR's emoji keywords)."""
    return tuple((ROOT / "data" / "words.txt").read_text().split())


def break_lines(text: str) -> str:
    """Two or three words break after the first; longer texts also after the second (Defense-Prefix's rule)."""
    first, *rest = text.split()
    if len(rest) < 3:
        return "\n".join([first, " ".join(rest)]).strip()
    return "\n".join([first, rest[0], " ".join(rest[1:])])


def draw_word(
    text: str, font: Path, size: int, image_size: int, rng: random.Random, stroke: int = 1
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Draw `text` at a uniform position, shrunk until it fits.

    Args:
        text: what to draw; long texts are broken into lines.
        font: a font file.
        size: glyph height in pixels to start from.
        image_size: side of the square canvas in pixels.
        rng: draws the position.
        stroke: width of the outline in pixels.

    Returns:
        uint8 masks (2, H, W), fill and fill+outline, 0 to 255, and the text box (left, top, right, bottom).
    """
    lines = break_lines(text)
    canvas = Image.new("L", (image_size, image_size))
    draw = ImageDraw.Draw(canvas)
    while True:
        face = _font(font, size)
        left, top, right, bottom = draw.multiline_textbbox((0, 0), lines, font=face, stroke_width=stroke, spacing=1)
        if size <= 6 or (right - left <= image_size and bottom - top <= image_size):
            break
        size -= 1
    x = rng.uniform(0, max(0, image_size - (right - left))) - left
    y = rng.uniform(0, max(0, image_size - (bottom - top))) - top
    masks = []
    for width in (0, stroke):
        canvas = Image.new("L", (image_size, image_size))
        ImageDraw.Draw(canvas).multiline_text((x, y), lines, fill=255, font=face, stroke_width=width, spacing=1, align="center")
        masks.append(np.asarray(canvas))
    box = (round(x + left), round(y + top), round(x + right), round(y + bottom))
    return np.stack(masks), box
