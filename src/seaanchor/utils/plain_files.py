"""Files of text and of plain data: one way to read them, and one way to say what is wrong with them."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError

LONGEST_NAME = 120  # characters of a path in an error
TOO_DEEP = "it is nested too deeply"
MOST, DEEPEST = 200_000, 100  # values in a file of settings, and how many inside each other


def why(error: Exception) -> str:
    """What is wrong with a file that could not be read or written, to follow its name.

    >>> why(FileNotFoundError(2, "No such file or directory")), why(PermissionError(13, "Permission denied"))
    ('is missing', 'cannot be read: permission denied')
    """
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return "cannot be read: its name is too long for a disk"
    return f"could not be read ({getattr(error, 'strerror', None) or error})"


def disk_error(error: OSError) -> SeaAnchorError:
    """The error for a file or folder that the system does not let us read, write or enter."""
    name = str(error.filename or "a file")
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    if isinstance(error, PermissionError):
        found, change = f"{shown}: permission denied", "ask its owner, or correct its permissions"
    elif error.errno == errno.ENAMETOOLONG:
        found, change = f"{shown}: the name is too long for a disk", "name something else, or shorten the name"
    else:
        found, change = f"{shown}: {error.strerror or error}", "name another one, or make it usable"
    return SeaAnchorError(found, "files and folders that this user may read, write and enter", change)


def read_text(path: Path, expected: str = "text in UTF-8", change: str = "correct it") -> str:
    """A file's text, without the mark that some systems put before it.

    Args:
        path: the file.
        expected, change: of the error.

    Raises:
        SeaAnchorError: missing, not readable, or of another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SeaAnchorError(f"{path} {why(error)}", expected, change) from error


def parse_json(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Plain data from JSON.

    Args:
        text: the JSON.
        pairs: what makes an object of its keys and values, as `json.loads` takes it.

    Raises:
        ValueError: it is no JSON, or nested deeper than can be read.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def read_json(path: Path, expected: str = "JSON", change: str = "correct it, or copy it again") -> Any:
    """Plain data from a JSON file.

    Args:
        path: the file.
        expected, change: of the error.

    Raises:
        SeaAnchorError: it is missing, cannot be read, or is no JSON.
    """
    text = read_text(path, expected, change)
    try:
        return parse_json(text)
    except ValueError as error:
        raise SeaAnchorError(f"{path} is cut short or damaged ({error})", expected, change) from None


def read_object(path: Path, expected: str = "a JSON object", change: str = "correct it, or copy it again") -> Any:
    """The object that a JSON file holds; the same errors.

    Raises:
        SeaAnchorError: as `read_json`, or it holds something else.
    """
    data = read_json(path, expected, change)
    if not isinstance(data, dict):
        raise SeaAnchorError(f"{path} holds {type(data).__name__}", expected, change)
    return data


def parse_yaml(text: str) -> Any:
    """Plain data from YAML.

    Raises:
        ValueError: it is no YAML, holds dates or numbers that there are not, or is nested deeper than can be read.
    """
    import yaml

    try:
        data = yaml.safe_load(text)
        check_size(data)
        return data
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (yaml.YAMLError, TypeError, AttributeError, KeyError, IndexError) as error:  # of keys that are lists
        raise ValueError(str(error)) from error


def check_size(data: Any, most: int = MOST, deepest: int = DEEPEST) -> None:
    """Fail on plain data that is too large or too deep once all that it refers to is written out: YAML may name one
    part in many places, or inside itself.

    Args:
        data: mappings, lists and values.
        most: how many of them together.
        deepest: how many inside each other.

    Raises:
        ValueError: there are more.
    """
    waiting, count = [(data, 0)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if depth > deepest or count > most:
            raise ValueError(TOO_DEEP if depth > deepest else f"it holds more than {most:,} values")
        inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        waiting += [(item, depth + 1) for item in inside]
