"""Files that name classes: JSON, text with one name a line, tables of two columns, and WordNet's lists.

A line or row may say to which class its name belongs, by a number or by a WordNet id; then the file is a mapping.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seaanchor.data.name_pairing import WHOLE_NUMBER, WORDNET_ID
from seaanchor.errors import SeaAnchorError, note
from seaanchor.utils.plain_files import parse_json, read_text
from seaanchor.utils.text import plain

TABLES = {".csv": ",", ".tsv": "\t"}
NUMBER_FIRST = re.compile(r"([0-9]{1,18})[\s:.,;)\]-]+(\S.*)")
NUMBER_LAST = re.compile(r"(.*\S)\s*[\t,;:]\s*([0-9]{1,18})")

Given = list[str] | dict[str, str]


def read_name_list(file: Path, gaps: bool) -> Given:
    """The names of a file: a list in the order of the class numbers, or a mapping from folders or class numbers.

    Args:
        file: JSON (list, mapping folder → name, or name → class number), CSV or TSV of names with their numbers or ids,
            or text with one name a line.
        gaps: whether blank lines between names may be left out, because the number of names is checked later.

    Raises:
        SeaAnchorError: missing or malformed, or a blank line that may stand for a class.
    """
    expected, ending = "a JSON or text file of class names, imagenet, or names joined by commas", file.suffix.lower()
    text = read_text(file, expected, "correct --class-names")
    try:
        if ending == ".json":
            found = _of_json(parse_json(text, _without_doubles), file)
        else:
            lines = lines_of(text, file, gaps)
            if ending in TABLES:
                found = _of_table(list(csv.reader(lines, delimiter=TABLES[ending], strict=True)), file)
            else:
                found = by_wordnet_id(lines) or _by_number(lines, file) or lines
    except (ValueError, csv.Error) as error:
        raise SeaAnchorError(f"{file} could not be read ({error})", expected, "correct --class-names") from error
    if not found:
        raise SeaAnchorError(f"{file} is empty", "a name for each class", "correct --class-names")
    return found


def lines_of(text: str, file: Path, gaps: bool = False) -> list[str]:
    """Lines without the spaces around them, and without blank ones at the end.

    Args:
        text: with line ends of any system.
        file: its source, for messages.
        gaps: whether blank lines between others are left out too; otherwise they are an error.

    Raises:
        SeaAnchorError: a blank line between others.
    """
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines and not gaps:
        raise SeaAnchorError(
            f"line {lines.index('') + 1} of {file} is blank",
            "a class name on every line: the line's number is that of the class",
            "name the class, or remove the line",
        )
    return [line for line in lines if line]


def by_wordnet_id(lines: Sequence[str]) -> dict[str, str] | None:
    """WordNet id → first of its words, of lines such as `n01440764 tench, Tinca tinca`; None if they are others. Where
    two ids begin with the same word, all of their words name them.

    >>> by_wordnet_id(["n01440764 tench, Tinca tinca", "n01443537\\tgoldfish"])
    {'n01440764': 'tench', 'n01443537': 'goldfish'}
    """
    parts = [line.split(None, 1) for line in lines]
    if not parts or not all(len(part) == 2 and WORDNET_ID.fullmatch(part[0]) for part in parts):
        return None
    words = {part[0]: re.sub(r"^[0-9]+\s+", "", part[1]).strip() for part in parts}  # some lists have a number between
    first = {number: names.split(",")[0].strip() for number, names in words.items()}
    counts = Counter(plain(name) for name in first.values())
    return {number: words[number] if counts[plain(name)] > 1 else name for number, name in first.items()}


def _by_number(lines: Sequence[str], file: Path) -> dict[str, str] | None:
    """Class number → name, of lines that all have a number before or behind the name: 0 to C − 1, or 1 to C, each once.
    None if they are not so; the numbers then belong to the names."""
    for form, number, name in ((NUMBER_FIRST, 1, 2), (NUMBER_LAST, 2, 1)):
        found = [form.fullmatch(line) for line in lines]
        rows = [(int(match[number]), match[name]) for match in found if match]
        numbers = sorted(row[0] for row in rows)
        if len(rows) == len(lines) > 1 and numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
            first = min(rows)
            note(f"{file} numbers its names: class {first[0]} is {first[1]}")
            return {str(row[0]): row[1] for row in rows}
    return None


def _of_table(rows: Sequence[Sequence[str]], file: Path) -> Given:
    """A column of names, or two columns of which one has class numbers or WordNet ids; a first row may name them."""
    rows = [[cell.strip() for cell in row] for row in rows]
    if rows and all(len(row) == 1 for row in rows):
        return [row[0] for row in rows]
    if rows and all(len(row) == 2 for row in rows):
        for body in (rows, rows[1:]):
            for key in (0, 1):
                keys = [row[key] for row in body]
                known = all(WHOLE_NUMBER.fullmatch(text) or WORDNET_ID.fullmatch(text) for text in keys)
                if body and known and len(set(keys)) == len(keys):
                    return {row[key]: row[1 - key] for row in body}
    raise SeaAnchorError(
        f"{file} is a table of {len(rows)} rows with {', '.join(sorted({str(len(row)) for row in rows}))} columns",
        "one column of names, or two: class numbers or WordNet ids, and names",
        "write a JSON mapping folder → name",
    )


def _of_json(data: Any, file: Path) -> Given:
    if isinstance(data, dict):
        data = {key: _name_of(value) for key, value in data.items()}
        if data and all(type(value) is int for value in data.values()):
            return _inverted(data, file)
        pairs = {key: value for key, value in data.items() if isinstance(value, tuple)}
        if pairs and len(pairs) == len(data) and all(map(WHOLE_NUMBER.fullmatch, pairs)):  # imagenet_class_index.json
            return dict(pairs[key] for key in sorted(pairs, key=int))
        if all(isinstance(value, str) and value.strip() for value in data.values()):
            return data
    elif isinstance(data, list) and all(isinstance(name, str) and name.strip() for name in data):
        return data
    raise SeaAnchorError(
        f"{file} holds something other than names", "a list of names, or a mapping folder → name", "correct it"
    )


def _name_of(value: Any) -> Any:
    """A pair of WordNet id and word as a tuple, its underscores read as spaces; anything else as it is."""
    pair = isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    if pair and WORDNET_ID.fullmatch(value[0]) and value[1].strip():
        return value[0], value[1].replace("_", " ")
    return value


def _inverted(numbers: Mapping[str, int], file: Path) -> list[str]:
    """The names of a mapping name → class number, in the order of the numbers."""
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise SeaAnchorError(
            f"{file} gives the class numbers {', '.join(map(str, sorted(numbers.values())[:5]))}, ...",
            f"each from 0 to {len(numbers) - 1} once",
            "correct it, or write a mapping folder → name",
        )
    return sorted(numbers, key=lambda name: numbers[name])


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for key, _ in pairs)
    if twice := sorted(key for key, count in counts.items() if count > 1):
        raise ValueError(f"it names {', '.join(twice[:5])} twice")
    return dict(pairs)
