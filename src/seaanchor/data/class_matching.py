"""The classes of a data set among the classes that a model answers with.

Names decide: `Tench`, `tench, Tinca tinca` and the WordNet number `n01440764` are one class of ImageNet. Where one of
the two sides has no names, the order of equally many classes does, and is told.
"""

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache

from seaanchor.data.name_pairing import are_numbers, name_key
from seaanchor.data.types import (
    Images,
    PreferenceImages,
    SegmentedImages,
    TypographicImages,
    UnlabelledImages,
    texts_of,
)
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.text import plain

Spellings = tuple[dict[str, set[int]], dict[str, set[int]], dict[str, set[int]]]
SAME_LIST = 0.95  # share of names by which a list of 1,000 is recognised as ImageNet's


def match_answers(names: Sequence[str], answers: Sequence[str] | None, count: int, source: str, of: str) -> list[int]:
    """The number that each class of a data set has among a model's answers.

    Args:
        names: of the data's classes, or its candidate texts.
        answers: names of the model's classes, None where they are not known.
        count: how many classes the model has.
        source: the data set, for messages.
        of: whose classes they are, for messages.

    Raises:
        SeaAnchorError: a class that is not among the answers, that could be several of them, or that is the same as
            another; no names and another number of classes.
    """
    if answers is None or (are_numbers(names) and not are_numbers(answers)):
        if len(names) != count:
            raise SeaAnchorError(
                f"{source} has {len(names)} classes and {of} {count}, and "
                f"{'the head' if answers is None else 'the data'} has no names for them",
                "names on both sides, or equally many classes in the same order",
                "name the classes (--class-names; for a head in a file, a JSON list beside it), or use --head probe",
            )
        note(f"the {count} classes of {source} are taken for those of {of} in their order, as there are no names")
        return list(range(count))
    return _by_name(names, answers, source, of)


def _by_name(names: Sequence[str], answers: Sequence[str], source: str, of: str) -> list[int]:
    spellings = _spellings(answers)
    number, missing = [], []
    for name in names:
        found = _candidates(name, spellings)
        if len(found) > 1:
            could = ", ".join(f"{answers[i]!r} (number {i})" for i in sorted(found)[:4])
            raise SeaAnchorError(
                f"the class {name!r} of {source} could be several of {of}: {could}",
                "a name that only one class has, such as its WordNet number",
                "rename it with --class-names",
            )
        missing += [] if found else [name]
        number += list(found)
    if missing:
        raise SeaAnchorError(*_unknown(missing, len(names), answers, source, of))
    if len(set(number)) < len(number):
        twice = next(i for i in number if number.count(i) > 1)
        both = [name for name, i in zip(names, number, strict=True) if i == twice]
        raise SeaAnchorError(
            f"the classes {' and '.join(map(repr, both))} of {source} are one class of {of}, {answers[twice]!r}",
            "one class each",
            "merge them, or rename one with --class-names",
        )
    if len(names) < len(answers):
        note(
            f"{source}: its {len(names)} classes were found by name among the {len(answers):,} of {of}; answers are "
            "among all of them"
        )
    return number


def _unknown(missing: Sequence[str], total: int, answers: Sequence[str], source: str, of: str) -> tuple[str, str, str]:
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    near = get_close_matches(plain(missing[0]), [plain(answer) for answer in answers], n=3, cutoff=0.6)
    nearest = f"; nearest to {missing[0]!r}: {', '.join(near)}" if near else ""
    return (
        f"{len(missing)} of the {total} classes of {source} are not among the {len(answers):,} of {of}: "
        f"{', '.join(missing[:5])}{more}{nearest}",
        f"classes that it answers with, such as {', '.join(answers[:3])}",
        "name them so with --class-names, or use --head probe with --train-data, or a file with a head for them",
    )


def _candidates(name: str, spellings: Spellings) -> set[int]:
    """Numbers of the answers that a name may mean: those called so, else by their first word, else by any word."""
    for level in spellings:
        for spelt in (name, *name.split(",")):
            if found := level.get(name_key(spelt)):
                return found
    return set()


def _spellings(answers: Sequence[str]) -> Spellings:
    """Which answers are called so, by their first word, and by any of their words; of ImageNet's, WordNet's numbers and
    words and OpenCLIP's names count, too."""
    whole: dict[str, set[int]] = {}
    first: dict[str, set[int]] = {}
    words: dict[str, set[int]] = {}
    for i, answer in enumerate(answers):
        whole.setdefault(name_key(answer), set()).add(i)
        first.setdefault(name_key(answer.split(",")[0]), set()).add(i)
        for word in answer.split(","):
            words.setdefault(name_key(word), set()).add(i)
    for i, (number, name, *others) in enumerate(_imagenet_spellings() if _is_imagenet(answers) else ()):
        for spelt in (number, name, others[0]):
            first.setdefault(spelt, set()).add(i)
        for spelt in others:
            words.setdefault(spelt, set()).add(i)
    return whole, first, words


@cache
def _imagenet_spellings() -> tuple[tuple[str, ...], ...]:
    """WordNet's number, OpenCLIP's name and WordNet's words of each of the 1,000 classes."""
    from timm.data import ImageNetInfo

    from seaanchor.data.names import imagenet_names

    info = ImageNetInfo()
    rows = zip(info.label_names(), info.label_descriptions(), imagenet_names(), strict=True)
    return tuple((number, name_key(name), *map(name_key, words.split(","))) for number, words, name in rows)


def _is_imagenet(answers: Sequence[str]) -> bool:
    if len(answers) != 1000:
        return False
    spelt = _imagenet_spellings()
    same = sum(name_key(answer.split(",")[0]) in known for answer, known in zip(answers, spelt, strict=True))
    return same >= SAME_LIST * len(answers)


def relabelled(images: Images, number: Sequence[int], names: Sequence[str]) -> Images:
    """The same images with other class numbers: class i becomes `number[i]` of `names`."""
    match images:
        case UnlabelledImages() | SegmentedImages():
            return images
        case PreferenceImages():
            pairs = tuple((_moved(number, a), _moved(number, b)) for a, b in images.pairs)
            return replace(images, texts=tuple(names), pairs=pairs)
        case TypographicImages():
            words = tuple(number[i] for i in images.words)
            return replace(images, labels=_labels(images.labels, number), words=words, class_names=tuple(names))
        case _:
            return replace(images, labels=_labels(images.labels, number), class_names=tuple(names))


def as_answers(images: Images, answers: Sequence[str] | None, count: int, source: str, of: str) -> Images:
    """The images with their classes as numbers and names of a model's answers; see `match_answers`."""
    number = match_answers(texts_of(images), answers, count, source, of)
    return relabelled(images, number, texts_of(images) if answers is None else answers)


def _labels(labels: Sequence[int], number: Sequence[int]) -> tuple[int, ...]:
    return tuple(number[i] for i in labels)


def _moved(number: Sequence[int], text: int) -> int:
    return text if text < 0 else number[text]
