"""Which name belongs to which class: lists and mappings of names beside class folders, class numbers, or the names that
a data set has itself.

Legend: C classes.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise

from seaanchor.errors import SeaAnchorError, is_text, note
from seaanchor.utils.text import plain

SHOWN = 5
WORDNET_ID = re.compile(r"n[0-9]{8}")
WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
PART_NUMBERED = re.compile(r"([^0-9]*)([0-9]{1,18})([^0-9].*)?", re.DOTALL)


def class_order(names: Sequence[str]) -> list[str]:
    """Names of classes in the order of their class numbers: by number where all of them are numbers, or hold one behind
    the same beginning; else sorted as texts.

    Raises:
        SeaAnchorError: two names are the same number.

    >>> class_order(["10", "2", "1"]), class_order(["c10", "c9"]), class_order(["10_owl", "9_cat"])
    (['1', '2', '10'], ['c9', 'c10'], ['9_cat', '10_owl'])
    >>> class_order(["b", "10", "a"])
    ['10', 'a', 'b']
    """
    parts = {name: PART_NUMBERED.fullmatch(name) for name in names}
    if len({part and part[1] for part in parts.values()}) != 1:
        return sorted(names)
    numbers = {name: int(part[2]) for name, part in parts.items() if part}
    order = sorted(names, key=lambda name: (numbers.get(name, 0), name))
    same = [f"{a} and {b}" for a, b in pairwise(order) if are_numbers(names) and numbers[a] == numbers[b]]
    if same:
        raise SeaAnchorError(
            f"the classes {', '.join(same[:SHOWN])} are one number", "a number for each class", "rename one of them"
        )
    return order


def are_numbers(names: Sequence[str]) -> bool:
    """Whether every name is a whole number."""
    return bool(names) and all(WHOLE_NUMBER.fullmatch(name) for name in names)


def pair_names(given: Sequence[str] | Mapping[str, str], own: Sequence[str] | None, source: str) -> tuple[str, ...]:
    """The given names in the order of a data set's classes.

    Args:
        given: names in the order of the class numbers, or a mapping from the data set's own names, or from numbers.
        own: C names that the data set has for its classes, such as those of its folders; None if it has numbers alone.
        source: of the given names, for messages.

    Raises:
        SeaAnchorError: a class without a name, a name without a class, or a list whose order contradicts the own names.
    """
    if isinstance(given, Mapping):
        if own is not None and (are_numbers(own) or not are_numbers(list(given))) and not _of_wordnet_alone(given, own):
            return _look_up(given, own, source)
        given = _in_order(given, source, first_is_free=own is not None)
    if own is None:
        return tuple(given)
    order = class_order(own) if are_numbers(own) or list(own) == sorted(own) else list(own)
    if len(given) != len(order):
        raise _other_count(given, order, source)
    if are_numbers(own):
        _check_numbers(given, order, source)
    elif list(own) != sorted(own) and order == class_order(own):
        _note_pairing(given, order, source)
    _check_order(given, order, source)
    name_of = dict(zip(order, given, strict=True))
    return tuple(name_of[name] for name in own)


def _of_wordnet_alone(given: Mapping[str, str], own: Sequence[str]) -> bool:
    """Whether a mapping is from WordNet ids, and the classes are called by other things."""
    return all(map(WORDNET_ID.fullmatch, given)) and not any(map(WORDNET_ID.fullmatch, own))


def _in_order(given: Mapping[str, str], source: str, first_is_free: bool) -> list[str]:
    """The names of a mapping from the numbers 0 to C − 1, or from WordNet ids in their order, which is ImageNet's; from
    1 to C where the numbers only say the order."""
    keys = list(given)
    numbers = sorted(map(int, keys)) if are_numbers(keys) else []
    if numbers and numbers == list(range(numbers[0], numbers[0] + len(keys))) and numbers[0] <= int(first_is_free):
        return [given[key] for key in sorted(keys, key=int)]
    if all(map(WORDNET_ID.fullmatch, keys)) and keys == sorted(keys):
        return list(given.values())
    raise SeaAnchorError(
        f"{source} maps names from {', '.join(keys[:SHOWN])}, and the data set has none of these for its classes",
        f"a list in the order of the class numbers, or a mapping from the numbers 0 to {len(keys) - 1}",
        "write a list",
    )


def _look_up(given: Mapping[str, str], own: Sequence[str], source: str) -> tuple[str, ...]:
    keys = {_spelling(key, own): name for key, name in given.items()}
    missing = [name for name in own if _spelling(name, own) not in keys]
    if missing:
        raise SeaAnchorError(
            f"{source} does not name {', '.join(missing[:SHOWN])}", "a name for every class folder", "add them"
        )
    return tuple(keys[_spelling(name, own)] for name in own)


def _spelling(name: str, own: Sequence[str]) -> str:
    """What a key of a mapping and the name of a folder have in common: accents are written in two ways, and numbers
    with and without zeros before them."""
    return str(int(name)) if are_numbers(own) and WHOLE_NUMBER.fullmatch(name) else unicodedata.normalize("NFC", name)


def _other_count(given: Sequence[str], order: Sequence[str], source: str) -> SeaAnchorError:
    odd = (
        f"{given[len(order)]!r} is a class without images"
        if len(given) > len(order)
        else f"{order[len(given)]!r} has images and no class"
    )
    if are_numbers(order) and len(given) > len(order):
        gaps = sorted(set(range(len(given))) - {int(name) for name in order})
        odd = f"of the numbers from 0, {', '.join(map(str, gaps[:SHOWN]))} has no images"
    return SeaAnchorError(
        f"{source} holds {len(given)} names: {odd}",
        f"{len(order)}, one for each class folder",
        "correct the list or write a JSON mapping",
    )


def _check_numbers(given: Sequence[str], order: Sequence[str], source: str) -> None:
    """A list is in the order of numbers that begin at 0; where they begin at 1 it says how it was read; elsewhere it
    could be read in several ways."""
    first, last = int(order[0]), int(order[-1])
    if last - first != len(order) - 1 or first > 1:
        there = {int(name) for name in order}
        missing = list(islice((number for number in range(last) if number not in there), SHOWN))
        raise SeaAnchorError(
            f"{source} is a list, and among the numbers that name the classes "
            f"{', '.join(map(str, missing))} is missing",
            "numbers from 0 without gaps, or a mapping",
            f'write a JSON mapping such as {{"{order[0]}": "{given[0]}", ...}}',
        )
    if first == 1:
        _note_pairing(given, order, source)


def _note_pairing(given: Sequence[str], order: Sequence[str], source: str) -> None:
    pairs = [f"{own} = {name}" for own, name in zip(order, given, strict=True)]
    note(f"the classes are named from {source}: {', '.join(pairs[:3])}, ..., {pairs[-1]}")


def _check_order(given: Sequence[str], order: Sequence[str], source: str) -> None:
    """A list that has one class's own name in another's place was written in another order."""
    place = {name_key(name): i for i, name in enumerate(order)}
    for i, name in enumerate(given):
        j = place.get(name_key(name), i)
        if j != i:
            raise SeaAnchorError(
                f"{source} has {name!r} where {order[i]!r} is expected, and {order[j]!r} is another class",
                f"names in the order {', '.join(order[:SHOWN])}{', ...' if len(order) > SHOWN else ''}",
                "put the list into this order, or write a JSON mapping",
            )


def match_classes(names: Sequence[str], others: Sequence[str], of: str, of_others: str) -> tuple[int, ...]:
    """The number that each class of one data set has in another.

    Args:
        names: C class names; capitals, spaces, underscores and the spelling of accents make no difference.
        others: names of the other data set's classes; more of them than are looked for do no harm.
        of, of_others: what the data sets are called, for messages.

    Returns:
        C numbers into `others`.

    Raises:
        SeaAnchorError: a class that the other data set lacks, or two classes of one name.

    >>> match_classes(["car", "Red_fox"], ["airplane", "car", "red fox"], "test", "train")
    (1, 2)
    """
    number: dict[str, int] = {}
    for i, name in enumerate(others):
        if number.setdefault(name_key(name), i) != i:
            raise SeaAnchorError(
                f"{of_others} has two classes of the name {name!r}", "distinct names", "rename one, or merge them"
            )
    lacking = [name for name in names if name_key(name) not in number]
    if lacking:
        more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        raise SeaAnchorError(
            f"{of} has the classes {', '.join(lacking[:SHOWN])}{more}, which {of_others} lacks",
            f"classes among {', '.join(others[:SHOWN])}{', ...' if len(others) > SHOWN else ''}",
            "name data sets of the same classes, or give both the same names with --class-names",
        )
    return tuple(number[name_key(name)] for name in names)


def name_key(name: str) -> str:
    """What spellings of one class name have in common: capitals, spaces, underscores and how accents are written make
    no difference."""
    return plain(unicodedata.normalize("NFC", name).replace("_", " "))


def clean_names(names: Sequence[str], source: str) -> tuple[str, ...]:
    """Class names without spaces around them, with accents spelt in one way (NFC).

    Raises:
        SeaAnchorError: a name that is blank, is no text that can be written as UTF-8, or goes over several lines.
    """
    cleaned = tuple(unicodedata.normalize("NFC", name).strip() for name in names)
    for given, name in zip(names, cleaned, strict=True):
        wrong = "" if name else "is blank"
        if not is_text(name):
            wrong = "is not UTF-8"
        elif len(name.splitlines()) > 1:
            wrong = "goes over several lines"
        elif any(unicodedata.category(letter) == "Cc" for letter in name):
            wrong = "holds a control character"
        if wrong:
            raise SeaAnchorError(
                f"the class name '{given.strip()}' of {source} {wrong}",
                "a text in UTF-8, on one line",
                "rename the class, or name all of them with --class-names",
            )
    return cleaned


def note_numbers(names: Sequence[str], source: str) -> None:
    """Log that numbers are taken as the names of classes: a prompt such as `a photo of a 7.` is seldom meant."""
    if are_numbers(names):
        note(f"the classes of {source} are called by numbers; --class-names gives them names")
