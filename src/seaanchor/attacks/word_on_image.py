"""The typographic attack on images at hand: a word drawn on a PIL image or on a tensor (Goh et al. 2021).

Legend: B batch, C channels, H W pixels.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from seaanchor.attacks.drawing import COLOURS, Box, Drawing, draw_on, random_drawing
from seaanchor.attacks.fonts import composed, glyphs
from seaanchor.attacks.inputs import check_images
from seaanchor.errors import SeaAnchorError

SIZES = (20 / 224, 40 / 224)  # glyph height as a share of the shorter side (Azuma & Matsui 2023, Defense-Prefix)
KINDS = ("train", "unseen")
_SMALLEST_SIDE = 8  # pixels


def typographic(
    image: Any,
    word: str | Sequence[str],
    seed: int = 0,
    *,
    font: str | Path | None = None,
    size: float | tuple[float, float] | None = None,
    fill: str | None = None,
    stroke: str | None = None,
    return_box: bool = False,
) -> Any:
    """Draw a word on an image, as preference training draws it: the image may then be taken for what the word says.

    What is left open is drawn at random from the seed and the image's place in the batch alone.

    Args:
        image: a PIL image of any size; or a tensor (3, H, W) or (B, 3, H, W), float in [0, 1] or uint8.
        word: what to draw; of a batch also one word for each image.
        seed: of font, size, place and colours.
        font: `train` (the default) or `unseen`, which are the shipped fonts; or a font file.
        size: glyph height as a share of the image's shorter side, or the smallest and the largest; 20/224 to 40/224 by
            default. A word that does not fit is broken into lines and shrunk.
        fill, stroke: names of colours, two different ones: white, blue, green, red, magenta, cyan, yellow, black.
        return_box: whether to return where the word stands as well.

    Returns:
        The image with the word on it: a PIL image in RGB, or a tensor of the same shape, type and device, rounded to
        8 bits as a saved picture would be. With `return_box` also (left, top, right, bottom) in pixels; of a batch a
        list of them.

    Raises:
        SeaAnchorError: nothing to draw, characters or a size or a colour that cannot be drawn, an image that is too
            small for the word, or one of another shape or type.

    >>> drawn, (left, top, right, bottom) = typographic(Image.new("RGB", (300, 200)), "iPod", return_box=True)
    >>> drawn.size, drawn.crop((left, top, right, bottom)).getbbox() is not None
    ((300, 200), True)
    """
    sizes = SIZES if size is None else size if isinstance(size, tuple) else (size, size)
    settings = _Settings(seed, *_font_choice(font), sizes, fill, stroke)
    if isinstance(image, Image.Image):
        pixels_HWC, box = settings.draw(np.asarray(image.convert("RGB")), _one_word(word), 0)
        picture = Image.fromarray(pixels_HWC)
        return (picture, box) if return_box else picture
    pixels_BCHW = _as_batch(image)
    words = [word] * len(pixels_BCHW) if isinstance(word, str) else list(word)
    if len(words) != len(pixels_BCHW):
        raise SeaAnchorError(f"{len(words)} words of {len(pixels_BCHW)} images", "one for each image", "correct them")
    images_BHWC = _to_8_bits(pixels_BCHW).permute(0, 2, 3, 1).cpu().numpy()
    drawn = [settings.draw(pixels, each, i) for i, (pixels, each) in enumerate(zip(images_BHWC, words, strict=True))]
    result = _like(drawn, image)
    boxes = [box for _, box in drawn]
    return (result, boxes if image.dim() == 4 else boxes[0]) if return_box else result


@dataclass(frozen=True)
class _Settings:
    """How a word is drawn."""

    seed: int
    fonts: str
    file: Path | None
    sizes: tuple[float, float]
    fill: str | None
    stroke: str | None

    def __post_init__(self) -> None:
        if not 0 < self.sizes[0] <= self.sizes[1] <= 1:
            raise SeaAnchorError(
                f"glyph sizes of {self.sizes[0]:g} to {self.sizes[1]:g}",
                "shares of the image's shorter side in (0, 1], the smaller first",
                "give such as 0.15",
            )
        for name in (self.fill, self.stroke):
            if name is not None and name not in COLOURS:
                raise SeaAnchorError(f"the colour {name!r}", f"one of {', '.join(COLOURS)}", "choose one of them")
        if self.fill is not None and self.fill == self.stroke:
            raise SeaAnchorError(f"fill and stroke are both {self.fill}", "two different colours", "change one of them")

    def draw(self, pixels_HWC: np.ndarray, word: str, number: int) -> tuple[np.ndarray, Box]:
        """One image with the word on it, uint8 (H, W, 3), and where it stands."""
        height, width = pixels_HWC.shape[:2]
        if min(height, width) < _SMALLEST_SIDE:
            raise SeaAnchorError(
                f"an image of {width} x {height} pixels",
                f"at least {_SMALLEST_SIDE} on each side to draw a word on",
                "choose a larger image",
            )
        drawing = self.drawing(word, (width, height), random.Random(f"{self.seed} {number}"))
        return draw_on(pixels_HWC, drawing), drawing.box

    def drawing(self, word: str, image_size: tuple[int, int], rng: random.Random) -> Drawing:
        """The word at its place, in its colours."""
        if self.file is not None:
            _check_glyphs(word, self.file)
        drawing = random_drawing(word, image_size, rng, fonts=self.fonts, sizes=self.sizes, font=self.file)
        return _recoloured(drawing, self.fill, self.stroke, rng)


def _recoloured(drawing: Drawing, fill: str | None, stroke: str | None, rng: random.Random) -> Drawing:
    """The drawing with the colours asked for; where the other, random one is the same, another is drawn."""
    if fill is None and stroke is None:
        return drawing
    inner, outer = fill or drawing.fill, stroke or drawing.stroke
    if inner == outer:
        other = rng.choice([name for name in sorted(COLOURS) if name != inner])
        inner, outer = (inner, other) if stroke is None else (other, outer)
    return replace(drawing, fill=inner, stroke=outer)


def _font_choice(font: str | Path | None) -> tuple[str, Path | None]:
    if font is None or font in KINDS:
        return str(font or "train"), None
    if not Path(font).is_file():
        raise SeaAnchorError(f"no font {str(font)!r}", "train, unseen, or a font file", "correct the name")
    return "train", Path(font)


def _check_glyphs(word: str, font: Path) -> None:
    characters = set("".join(composed(word).split()))
    if not characters:
        raise SeaAnchorError(f"the word {word!r} has nothing to draw", "a word with letters", "give another word")
    try:
        lacking = characters - glyphs(font)
    except (OSError, RuntimeError) as error:
        raise SeaAnchorError(f"{font} could not be read ({error})", "a TrueType or OpenType file", "name one") from None
    if lacking:
        raise SeaAnchorError(
            f"{font.name} has no {', '.join(sorted(map(repr, lacking))[:5])}",
            f"the characters of {word!r}",
            "choose another font or word",
        )


def _one_word(word: str | Sequence[str]) -> str:
    if not isinstance(word, str):
        raise SeaAnchorError(f"{len(word)} words for one image", "one word", "give a string")
    return word


def _as_batch(image: Any) -> Tensor:
    """The tensor as (B, 3, H, W)."""
    if not isinstance(image, Tensor):
        raise SeaAnchorError(
            f"an image of type {type(image).__name__}", "a PIL image or a tensor", "PIL.Image.fromarray(array)"
        )
    if image.dim() not in (3, 4) or image.shape[-3] != 3:
        raise SeaAnchorError(
            f"an image of shape {tuple(image.shape)}", "(3, H, W) or (B, 3, H, W)", "put the three channels first"
        )
    pixels_BCHW = image if image.dim() == 4 else image[None]
    if pixels_BCHW.dtype != torch.uint8:
        check_images(pixels_BCHW)
    return pixels_BCHW


def _to_8_bits(pixels_BCHW: Tensor) -> Tensor:
    if pixels_BCHW.dtype == torch.uint8:
        return pixels_BCHW
    return (pixels_BCHW.detach() * 255).round().to(torch.uint8)


def _like(drawn: list[tuple[np.ndarray, Box]], image: Tensor) -> Tensor:
    """The drawn images as a tensor of the shape, type and device of `image`."""
    if not drawn:
        return image.clone()
    pixels_BCHW = torch.from_numpy(np.stack([pixels for pixels, _ in drawn])).permute(0, 3, 1, 2).contiguous()
    found = pixels_BCHW.to(image) if image.dtype == torch.uint8 else pixels_BCHW.to(image) / 255
    return found if image.dim() == 4 else found[0]
