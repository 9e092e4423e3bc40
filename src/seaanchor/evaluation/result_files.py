"""Results as JSON: `encode` and `decode` are the only two functions that know the keys of result files.

Files of format 4 have the fields of `EvaluationResult`, with the keys of CLIP_benchmark's result files first; their
JSON schema is `evaluation/schema/result-4.json`. Files of the formats 1, 2 and 3 are arranged as format 4 first, by
`evaluation.old_formats`, and then read by the same code.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.old_formats import to_format_4
from seaanchor.evaluation.results import FORMAT, EvaluationResult, RobustAccuracies

FIRST = ("format", "dataset", "model", "pretrained", "task", "metrics", "language")
"""The keys that every file begins with."""


def encode(result: EvaluationResult) -> dict[str, Any]:
    """A result as plain data, ready for JSON; `decode` turns it into the same result again."""
    data = {field.name: _plain(getattr(result, field.name)) for field in fields(result)} | {"format": FORMAT}
    return {key: data[key] for key in FIRST} | {key: value for key, value in data.items() if key not in FIRST}


def _plain(value: Any) -> Any:
    if isinstance(value, RobustAccuracies):
        return [_plain(row) for row in value.rows]
    if isinstance(value, EvaluationResult):
        return encode(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def decode(data: Mapping[str, Any], name: str = "the result") -> EvaluationResult:
    """A result from plain data of any format up to this one.

    Args:
        data: what `encode` gives, or what an older version wrote.
        name: of the file, for errors.

    Raises:
        SeaAnchorError: a newer format, an unknown one, a missing key, or a value of another type.
    """
    version = data.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise SeaAnchorError(
            f"{name} has format {version}, of a newer version of Sea Anchor",
            f"format 1 to {FORMAT}",
            "install that version, or evaluate again with this one",
        )
    if version not in range(1, FORMAT + 1):
        raise SeaAnchorError(
            f"{name} has format {version}", f"format 1 to {FORMAT}", "evaluate again with this version"
        )
    try:
        arranged = data if version == FORMAT else to_format_4(data)
        return _typed(EvaluationResult, arranged, "")
    except _BadValue as error:
        raise SeaAnchorError(
            f"{name}: {error}", f"a result file of format {version}", "evaluate again, or restore the file"
        ) from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SeaAnchorError(
            f"{name} is not arranged as a result of format {version} ({type(error).__name__}: {error})",
            "a file that `seaanchor evaluate` wrote",
            "evaluate again, or restore the file",
        ) from None


def read_result(path: Path) -> EvaluationResult:
    """A result file of any format up to this one.

    Raises:
        SeaAnchorError: as `decode`; or the file cannot be read, is cut short, or is no result.
    """
    data = read_json(path)
    if not is_result(data):
        raise SeaAnchorError(f"{path} is no result file", "a file that `seaanchor evaluate` wrote", "name another file")
    return decode(data, str(path))


def read_json(path: Path) -> Any:
    """Plain data.

    Raises:
        SeaAnchorError: the file cannot be read or is cut short.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SeaAnchorError(
            f"{path} is cut short or damaged ({error})",
            "JSON as Sea Anchor wrote it",
            "remove it and evaluate again, or restore it",
        ) from None


def is_result(data: Any) -> bool:
    """Whether plain data looks like a result of any format, newer ones too."""
    return isinstance(data, dict) and "dataset" in data and "model" in data and ("clean" in data or "suites" in data)


class _BadValue(Exception):
    """A value that does not fit, with where it is."""


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Plain data as the type that an annotation names."""
    if get_origin(kind) in (Union, UnionType):
        inner = next(option for option in get_args(kind) if option is not type(None))
        return None if value is None else _typed(inner, value, where)
    if kind is RobustAccuracies:
        return RobustAccuracies(_typed(_hints(RobustAccuracies)["rows"], value, where))
    if is_dataclass(kind):
        return _record(kind, value, where)
    if get_origin(kind) is dict:
        _require(isinstance(value, dict), value, "an object", where)
        return {key: _typed(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if get_origin(kind) is tuple:
        _require(isinstance(value, list | tuple), value, "a list", where)
        inside = get_args(kind)
        kinds = [inside[0]] * len(value) if inside[-1] is ... else inside
        _require(len(kinds) == len(value), value, f"{len(kinds)} values", where)
        return tuple(_typed(k, item, f"{where}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True)))
    able = (int, float) if kind is float else (kind,)
    _require(isinstance(value, able) and (kind is bool or not isinstance(value, bool)), value, kind.__name__, where)
    return value


def _record(kind: Any, value: Any, where: str) -> Any:
    _require(isinstance(value, dict), value, "an object", where)
    given = {}
    for field in fields(kind):
        inside = f"{where}.{field.name}".lstrip(".")
        if field.name in value:
            given[field.name] = _typed(_hints(kind)[field.name], value[field.name], inside)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise _BadValue(f"{inside} is missing")
    return kind(**given)


def _require(good: bool, value: Any, expected: str, where: str) -> None:
    if not good:
        raise _BadValue(f"{where.lstrip('.')} is {str(value)[:60]!r} and not {expected}")
