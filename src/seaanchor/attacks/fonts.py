"""The shipped fonts, and which of them have the characters of a text."""

import unicodedata
from functools import cache
from importlib.resources import files
from pathlib import Path

from PIL import ImageFont

from seaanchor.errors import SeaAnchorError

FONTS = Path(str(files("seaanchor"))) / "zoo" / "fonts"


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
def font_face(path: Path, size: int) -> ImageFont.FreeTypeFont:
    """A font file at a glyph height in pixels."""
    return ImageFont.truetype(str(path), size)
