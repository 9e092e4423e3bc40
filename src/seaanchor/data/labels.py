"""Stored labels, numbers or texts, as class numbers.

Legend: N images, C classes.
"""

import re
from collections.abc import Sequence
from typing import Any

from seaanchor.data.name_pairing import class_order, clean_names, match_classes
from seaanchor.errors import SeaAnchorError

NUMBER = re.compile("-?[0-9]{1,18}")


def own_names(values: Sequence[Any]) -> tuple[str, ...] | None:
    """The class names that labels spell, if all that are there are texts and none is a whole number; else None."""
    given = [value for value in values if value is not None and value != ""]
    if not given or not all(isinstance(text, str) and not NUMBER.fullmatch(text) for text in given):
        return None
    return tuple(class_order(sorted(set(given))))


def class_numbers(
    values: Sequence[Any], names: Sequence[str], own: Sequence[str] | None, source: str, wheres: Sequence[str]
) -> list[tuple[int, str]]:
    """The class number of every image with an empty text, or −1 and why it has none.

    Args:
        values: N stored labels: numbers, texts of numbers, or names of classes; None where there is none. A negative
            number is how data sets say that an image has none.
        names: C names.
        own: C names that the data set itself has, among which texts are looked up.
        source: of the labels, for messages.
        wheres: N names of images, for messages.

    Raises:
        SeaAnchorError: class numbers that no name belongs to, or texts that are no names.
    """
    texts = own_names(values)
    if texts is not None:
        known = clean_names(own or texts, source)
        number = dict(zip(texts, match_classes(texts, known, f"the labels of {source}", "its list"), strict=True))
        values = [value if value is None else number.get(value) for value in values]
    found = [_class_number(value, where) for value, where in zip(values, wheres, strict=True)]
    _check_range([number for number, reason in found if not reason], names, source)
    return found


def _class_number(value: Any, where: str) -> tuple[int, str]:
    if value is None:
        return -1, f"{where} has no class number"
    if isinstance(value, str) and NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        return -1, f"{where}: {str(value)[:20]!r} is no class number"
    return (int(value), "") if value >= 0 else (-1, f"{where}: class {value}")


def _check_range(labels: Sequence[int], names: Sequence[str], source: str) -> None:
    nameless = [label for label in labels if label >= len(names)]
    if not nameless:
        return
    from_one = 0 not in labels and max(nameless) == len(names)
    raise SeaAnchorError(
        f"class {min(nameless)} has images and no name: {len(nameless)} of {len(labels)} images of {source} have class "
        f"numbers from {min(nameless)} on, and there are {len(names)} names",
        f"class numbers from 0 to {len(names) - 1}",
        "subtract 1 from the class numbers, which begin at 1"
        if from_one
        else "add the names that are missing, or correct the class numbers",
    )
