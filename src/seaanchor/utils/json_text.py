"""JSON as others read it, too: its grammar has no `NaN` and no `Infinity`, and nothing here writes them."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from seaanchor.errors import SeaAnchorError


def to_json(value: Any, **settings: Any) -> str:
    """A value as JSON.

    Args:
        value: plain data.
        settings: of `json.dumps`, such as `indent`.

    Raises:
        SeaAnchorError: a number in it is not finite; the error says which.
    """
    try:
        return json.dumps(value, allow_nan=False, **settings)
    except ValueError:
        places = list(not_finite(value))
        raise SeaAnchorError(
            f"{', '.join(places[:3])}{' ...' if len(places) > 3 else ''} cannot be written as JSON",
            "finite numbers",
            "do not trust what they were computed from; look for weights or settings that are not finite",
        ) from None


def with_nulls(value: Any) -> Any:
    """Plain data with None in place of every number that is not finite."""
    if isinstance(value, Mapping):
        return {key: with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def not_finite(value: Any, name: str = "") -> Iterator[str]:
    """Every number in plain data that is not finite, as `place is nan`.

    >>> list(not_finite({"drift": {"cosine": math.nan, "n": 3}, "rows": [1.0, math.inf]}))
    ['drift.cosine is nan', 'rows[1] is inf']
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from not_finite(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from not_finite(item, f"{name}[{number}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name or 'it'} is {value}"
