"""Words that take each other's place in captions, texts that are the same to a model, lines of names and values, and
numbers of things."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.utils.plain_files import read_text

GENDER = "gender"


def word_pairs(source: str | Path = GENDER) -> tuple[tuple[str, str], ...]:
    """Word pairs, one `left right` a line: the shipped list `gender`, or a file.

    Raises:
        SeaAnchorError: a file that is missing or no text, or a line that is no pair.
    """
    file = Path(str(files("seaanchor"))) / "zoo" / "data" / "gender_pairs.txt" if source == GENDER else Path(source)
    pairs = []
    for line in read_text(file, f"{GENDER}, or a file with two words a line", "correct the path").splitlines():
        words = line.split("#")[0].split()
        if len(words) not in (0, 2):
            raise SeaAnchorError(f"{file}: {line!r}", "two words a line", "correct it")
        if words:
            pairs.append((words[0].lower(), words[1].lower()))
    return tuple(pairs)


def plain(text: str) -> str:
    """What CLIP's tokenizers make of a text before they cut it up: small letters, single spaces, accents spelt in one
    way.

    >>> plain(" Red  Fox")
    'red fox'
    """
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


def aligned(rows: Mapping[str, str]) -> list[str]:
    """A line for each name and its value, the values below each other.

    >>> aligned({"model": "a", "data": "b"})
    ['model  a', 'data   b']
    """
    width = max(map(len, rows), default=0)
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def plural(number: int, word: str, many: str = "") -> str:
    """A number of things.

    >>> plural(1, "image"), plural(1200, "class", "classes")
    ('1 image', '1,200 classes')
    """
    return f"{number:,} {word if number == 1 else many or word + 's'}"


def check_distinct(names: Sequence[str]) -> None:
    """Classes of one name could not be distinguished, and the first of them would get every answer.

    Raises:
        SeaAnchorError: two names are the same, or the same but for capitals and spaces.
    """
    spelt: dict[str, list[str]] = {}
    for name in names:
        spelt.setdefault(plain(name), []).append(name)
    twice = [" = ".join(sorted(set(same))) for same in spelt.values() if len(same) > 1]
    if twice:
        found, change = ", ".join(sorted(twice)[:5]), "rename them with --class-names, or merge these classes"
        raise SeaAnchorError(
            f"class names given twice: {found}", "distinct names, and not only in capitals or spaces", change
        )


def swap_words(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    """The text with every word of a pair replaced by its partner; capitals stay.

    >>> swap_words("A man and his dog", [("man", "woman"), ("his", "her")])
    'A woman and her dog'
    """
    partner: dict[str, str] = {}
    for left, right in pairs:
        partner.setdefault(left, right)
        partner.setdefault(right, left)

    def replacement(match: re.Match) -> str:
        word = match.group()
        other = partner.get(word.lower(), word)
        return other.capitalize() if word[0].isupper() and word.lower() in partner else other

    return re.sub(r"[A-Za-z]+", replacement, text)


def first_sentence(docstring: str | None) -> str:
    """What a docstring begins with, on one line.

    >>> first_sentence("Robust, as in (Mao et al. 2023) and after. More. And more.")
    'Robust, as in (Mao et al. 2023) and after.'
    """
    paragraph = " ".join((docstring or "").strip().partition("\n\n")[0].split())
    first, *more = re.split(r"\. (?=[A-Z`])", paragraph)
    return f"{first}." if more else first
