"""What an encoder does to a picture, preprocessing and normalisation together, and how users write it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from seaanchor.data.preprocessing import CHOICES, Preprocessing
from seaanchor.errors import SeaAnchorError

Triple = tuple[float, float, float]
SETTINGS = ("resize_mode", "interpolation", "resize_size", "fill", "crop", "colours", "backend", "mean", "std")


@dataclass(frozen=True)
class InputSettings:
    """Any picture → what the tower sees: pixels by `preprocessing`, then (pixels − mean) / std for each channel.

    Attributes:
        preprocessing: any picture → pixels of levels in [0, 255].
        mean, std: of pixels in [0, 1], red, green and blue.
    """

    preprocessing: Preprocessing
    mean: Triple
    std: Triple

    @property
    def normalisation(self) -> str:
        """Mean and std as `changed` reads them."""
        return ",".join(f"{name}={'/'.join(f'{x:.9g}' for x in getattr(self, name))}" for name in ("mean", "std"))

    def __str__(self) -> str:
        """As `changed` reads it, with the size before."""
        return f"{self.preprocessing},{self.normalisation}"


def triple(name: str, key: str, value: Any) -> Triple:
    """Mean or std as three numbers; one number is for all channels.

    Raises:
        SeaAnchorError: another number of channels, something else than numbers, or a std that is not positive.
    """
    numbers = [value] * 3 if isinstance(value, int | float) else list(value) if isinstance(value, list | tuple) else []
    plain = all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers)
    if len(numbers) != 3 or not plain or (key == "std" and min(numbers) <= 0):
        raise SeaAnchorError(
            f"the preprocessing of {name} has {key} {value!r}",
            "a number for each of three channels" + (", all positive" if key == "std" else ""),
            "correct it, or remove it for the library's default",
        )
    return (float(numbers[0]), float(numbers[1]), float(numbers[2]))


def changed(before: InputSettings, text: str) -> InputSettings:
    """Settings with those of `key=value,key=value` in place of their own; three values are written a/b/c.

    Args:
        before: what is not named stays.
        text: such as `resize_mode=squash,interpolation=bilinear,mean=0.5,std=0.5`.

    Raises:
        SeaAnchorError: an unknown key or value, a key given twice, or a part without `=`.
    """
    given: dict[str, Any] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in SETTINGS or key in given:
            found = f"--preprocess {text}: {part!r} " + ("is there twice" if key in given else "is not understood")
            change = "set --image-size" if key in ("size", "image_size") else "correct it"
            raise SeaAnchorError(found, f"key=value,... with any of {', '.join(SETTINGS)}", change)
        given[key] = value if key in CHOICES else _numbers(key, value)
    mean, std = (
        triple("--preprocess", key, given.pop(key)) if key in given else getattr(before, key) for key in ("mean", "std")
    )
    return InputSettings(replace(before.preprocessing, **given), mean, std)


def _numbers(key: str, value: str) -> Any:
    read = float if key in ("mean", "std") else int
    try:
        numbers = tuple(read(part) for part in value.split("/"))
    except ValueError:
        kind = "a number" if read is float else "a whole number"
        found = f"--preprocess: {key}={value}"
        raise SeaAnchorError(found, f"{kind}, or three joined by /", "correct it") from None
    return numbers if len(numbers) > 1 else numbers[0]


def in_words(text: str) -> str:
    """A preprocessing for people, of what `str` gives and result files hold; what is not understood stays as it is.

    >>> in_words("size=224,resize_mode=squash"), in_words("size=224,shape=round")
    ('resized to 224 × 224 pixels (bicubic), whatever the proportions', 'size=224,shape=round')
    """
    size, _, rest = text.partition(",")
    number = size.removeprefix("size=")
    if not number.isdecimal() or number == size:
        return text
    try:
        plain = InputSettings(Preprocessing(int(number)), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return changed(plain, rest).preprocessing.words
    except (SeaAnchorError, ValueError):
        return text


def known_choice(name: str, key: str, value: Any, known: Mapping[str, Any]) -> Any:
    """What a library's word means here.

    Raises:
        SeaAnchorError: a word that the library does not know.
    """
    if not isinstance(value, str) or value not in known:
        raise SeaAnchorError(
            f"the preprocessing of {name} has {key} {value!r}", f"one of {', '.join(known)}", "correct it"
        )
    return known[value]
