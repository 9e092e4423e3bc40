"""The JSON schema of a frozen dataclass, from its annotations: what `records.to_plain` writes is valid under it."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin

from seaanchor.utils.records import hints, inner_of, written_as

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN = {str: "string", int: "integer", bool: "boolean"}


def schema_of(record: Any, title: str) -> dict[str, Any]:
    """The schema of a dataclass; records inside it are named definitions, described by the first sentence of their
    docstring.

    Args:
        record: the dataclass.
        title: of the schema.
    """
    definitions: dict[str, Any] = {}
    whole = _schema(record, definitions)
    return {"$schema": DRAFT, "title": title, **whole, "$defs": dict(sorted(definitions.items()))}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    if kind is float or inner_of(kind) is float:  # null also where it is not finite; a check fails then
        return {"anyOf": [{"type": "number"}, {"type": "null"}]}
    if (inner := inner_of(kind)) is not None:
        return {"anyOf": [_schema(inner, definitions), {"type": "null"}]}
    if _is_record(kind) and (alone := written_as(kind)) is not None:
        return _schema(hints(kind)[alone], definitions)
    if _is_record(kind):
        return _reference(kind, definitions)
    if get_origin(kind) is dict:
        return {"type": "object", "additionalProperties": _schema(get_args(kind)[1], definitions)}
    if get_origin(kind) is tuple:
        inside = get_args(kind)
        if inside[-1] is ...:
            return {"type": "array", "items": _schema(inside[0], definitions)}
        places = [_schema(item, definitions) for item in inside]
        return {"type": "array", "prefixItems": places, "minItems": len(places), "maxItems": len(places)}
    return {"type": _PLAIN[kind]}


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind)


def _reference(record: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if record.__name__ not in definitions:
        definitions[record.__name__] = {}  # a record may hold itself
        definitions[record.__name__] = {
            "description": (record.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip(),
            "type": "object",
            "properties": {field.name: _schema(hints(record)[field.name], definitions) for field in fields(record)},
            "required": [f.name for f in fields(record) if f.default is MISSING and f.default_factory is MISSING],
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{record.__name__}"}
