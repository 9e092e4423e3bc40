"""Frozen dataclasses as plain data and back, by their annotations.

Annotations may be other dataclasses, `dict[str, ...]`, `tuple[...]`, `... | None`, str, int, float, bool and Any. A
dataclass with a class attribute `WRITTEN_AS` is written as the field of that name alone.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
LARGEST = 2**63  # of whole numbers, beyond which neither numpy nor torch counts


class BadValueError(ValueError):
    """A value that does not fit its annotation, with where it is."""


def to_plain(value: Any) -> Any:
    """Records as dictionaries, tuples as lists, anything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        if (alone := written_as(value)) is not None:
            return to_plain(getattr(value, alone))
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[T], data: Any, where: str = "") -> T:
    """A record from plain data. Keys that it does not know are passed over.

    Args:
        kind: a dataclass, or any annotation that this module knows.
        data: what `to_plain` gives.
        where: name of the value, for errors.

    Raises:
        BadValueError: a key without default is missing, or a value has another type.
    """
    return _typed(kind, data, where)


@cache
def hints(record: type) -> dict[str, Any]:
    """The annotations of a dataclass, resolved."""
    return get_type_hints(record)


def written_as(record: Any) -> str | None:
    """The field that a record, or a class of records, is written as; None if it is written as a whole."""
    return getattr(record, "WRITTEN_AS", None)


def inner_of(kind: Any) -> Any | None:
    """X of the annotation `X | None`; None for another annotation."""
    if get_origin(kind) not in (Union, UnionType):
        return None
    return next(option for option in get_args(kind) if option is not type(None))


def _typed(kind: Any, value: Any, where: str) -> Any:
    """A value as the type that an annotation names."""
    if kind is Any:
        return value
    if (inner := inner_of(kind)) is not None:
        return None if value is None else _typed(inner, value, where)
    if _is_record(kind) and (alone := written_as(kind)) is not None:
        return kind(**{alone: _typed(hints(kind)[alone], value, where)})
    if _is_record(kind):
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
    if kind is float and value is None:
        return math.nan  # JSON has no other word for it
    if type(value) is int:
        _require(abs(value) < LARGEST, value, "a number of 64 bits", where)
    able = (int, float) if kind is float else (kind,)
    _require(isinstance(value, able) and (kind is bool or not isinstance(value, bool)), value, kind.__name__, where)
    return value


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind)


def _record(kind: Any, value: Any, where: str) -> Any:
    _require(isinstance(value, dict), value, "an object", where)
    given = {}
    for field in fields(kind):
        inside = f"{where}.{field.name}".lstrip(".")
        if field.name in value:
            given[field.name] = _typed(hints(kind)[field.name], value[field.name], inside)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise BadValueError(f"{inside} is missing")
    try:
        return kind(**given)
    except ValueError as error:  # values that do not go together
        raise BadValueError(f"{where}: {error}") from None


def _require(good: bool, value: Any, expected: str, where: str) -> None:
    if not good:
        raise BadValueError(f"{where.lstrip('.')} is {str(value)[:60]!r} and not {expected}")
