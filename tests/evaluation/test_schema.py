"""The published schema of result files, and files of every format against it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from seaanchor.evaluation import schema_of as module
from seaanchor.evaluation.result_files import decode, encode
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.evaluation.schema_of import schema_of

PUBLISHED = Path(module.__file__).parent / "schema" / "result-4.json"
FILES = sorted((Path(__file__).parent / "files").glob("*.json"))
KINDS = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}


def valid(value: Any, schema: dict[str, Any], whole: dict[str, Any]) -> bool:
    """The few words of JSON schema that the published one uses."""
    if "$ref" in schema:
        return valid(value, whole["$defs"][schema["$ref"].removeprefix("#/$defs/")], whole)
    if "anyOf" in schema:
        return any(valid(value, option, whole) for option in schema["anyOf"])
    match schema["type"]:
        case "object":
            known, other = schema.get("properties", {}), schema["additionalProperties"]
            return (
                isinstance(value, dict)
                and set(schema.get("required", ())) <= set(value)
                and all(k in known or other is not False for k in value)
                and all(valid(v, known.get(k) or other, whole) for k, v in value.items())
            )
        case "array" if "prefixItems" in schema:
            kinds = schema["prefixItems"]
            return len(kinds) == len(value) and all(valid(v, k, whole) for v, k in zip(value, kinds, strict=True))
        case "array":
            return isinstance(value, list) and all(valid(item, schema["items"], whole) for item in value)
    return isinstance(value, KINDS[schema["type"]]) and (schema["type"] == "boolean" or not isinstance(value, bool))


def leaves(node: Any, name: str = "") -> Counter:
    """Every number and every set of bits, by the last key before it."""
    if isinstance(node, dict):
        return sum((leaves(value, key) for key, value in node.items()), Counter())
    if isinstance(node, list):
        return sum((leaves(value, name) for value in node), Counter())
    number = isinstance(node, int | float) and not isinstance(node, bool)
    return Counter([(name, node)] if number or name == "right" else [])


def test_the_published_schema_is_that_of_the_records():
    assert json.loads(PUBLISHED.read_text()) == schema_of(EvaluationResult, "Sea Anchor evaluation result, format 4")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files_of_every_format_are_read_without_loss(file):
    """Real files, written by the versions of their time: every number is found again, and the result is valid as
    format 4."""
    data = json.loads(file.read_text())
    plain = json.loads(json.dumps(encode(decode(data))))
    schema = json.loads(PUBLISHED.read_text())
    assert valid(plain, schema, schema)
    numbers = [
        {k: v for k, v in part.items() if k not in ("format", "protocol", "environment")} for part in (data, plain)
    ]
    lost = leaves(numbers[0]) - leaves(numbers[1])
    assert set(lost) <= {("k", 20), ("format", data["format"])}  # once for the probe is enough
    assert decode(plain) == decode(json.loads(json.dumps(encode(decode(plain)))))


def test_the_schema_rejects_what_does_not_fit():
    schema = json.loads(PUBLISHED.read_text())
    plain = encode(EvaluationResult("set", "model"))
    assert valid(plain, schema, schema)
    for wrong in ({"dataset": 3}, {"another": 1}, {"clean": {"low": 0.1}}, {"robust": [{"attack": "pgd"}]}):
        assert not valid(json.loads(json.dumps(plain | wrong)), schema, schema), wrong
