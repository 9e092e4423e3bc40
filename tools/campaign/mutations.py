"""Files with something wrong in them, made from whole ones: the same random numbers give the same damage."""

import json
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

import yaml

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    0.5,
    -1e308,
    float("nan"),
    float("inf"),
    "",
    "²",
    "x",
    "a\u2028b",
    "a\nb",
    "\x1b[2J",
    "é" * 5000,
    "../" * 9,
    "/nowhere/at/all",
    [],
    [[]],
    [1, "a", None],
    {},
    {"a": {"b": {"c": 1}}},
    {"": None},
)
"""Values that nobody expects where they are put."""
ODD_TEXTS = (*(text for text in ODD if isinstance(text, str)), "1.5", "-3", "1e400", "NaN", "０", "{}", "a,b", '"')
SEPARATORS = ("\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\t", ",", "\x00")
JSON_ENDINGS, LINES, YAML_ENDINGS = (".json",), (".jsonl",), (".yaml", ".yml")
TABLES = (".csv", ".tsv", ".txt")


def mutated(content: bytes, ending: str, rng: random.Random) -> bytes:
    """A file's content with something wrong in it.

    Args:
        content: of a whole file.
        ending: of its name, which says how it is arranged.
        rng: decides what is changed.
    """
    if rng.random() < 0.25:
        return _bytes(content, rng)
    if ending in JSON_ENDINGS:
        return _dumped(_changed(json.loads(content), rng), rng)
    if ending in LINES:
        return _json_lines(content, rng)
    if ending in YAML_ENDINGS:
        return yaml.safe_dump(_changed(yaml.safe_load(content), rng), allow_unicode=True).encode("utf-8", "replace")
    if ending in TABLES:
        return _text_lines(content, rng)
    if ending == ".safetensors":
        return _safetensors(content, rng)
    return _bytes(content, rng)


def flipped(content: bytes, rng: random.Random) -> bytes:
    """The content with one bit turned round."""
    at = rng.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def _bytes(content: bytes, rng: random.Random) -> bytes:
    at, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: b"",
        lambda: content[:at],
        lambda: content[:at] + content[end:],
        lambda: content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at:],
        lambda: b"\xef\xbb\xbf" + content,
        lambda: b"\xff\xfe" + content,
        lambda: content[:at] + b"\x00" + content[at:],
        lambda: b"[" * 100_000,
        lambda: b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        lambda: content + content,
        lambda: flipped(content or b"\x00", rng),
    )
    return rng.choice(kinds)()


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inside:
        yield from _places(value, (*path, key))


def _changed(node: Any, rng: random.Random) -> Any:
    """The data with one value of it replaced, left out, wrapped, doubled or called otherwise."""
    *above, last = (None, *rng.choice(list(_places(node))))
    if last is None and len(above) == 0:
        return rng.choice(ODD)
    parent = node
    for key in above[1:]:
        parent = parent[key]
    action = rng.choice(("replace", "replace", "replace", "remove", "wrap", "double", "rename"))
    if action == "remove":
        del parent[last]
    elif action == "wrap":
        parent[last] = rng.choice(([parent[last]], {"a": parent[last]}, str(parent[last])))
    elif action == "double" and isinstance(parent, list):
        parent.insert(last, parent[last])
    elif action == "rename" and isinstance(parent, dict):
        parent[str(rng.choice(ODD_TEXTS))] = parent.pop(last)
    else:
        parent[last] = rng.choice(ODD)
    return node


def _dumped(data: Any, rng: random.Random) -> bytes:
    text = json.dumps(data, indent=rng.choice((None, 1)))
    return text.replace('"x"', '"\\ud800"').encode() if rng.random() < 0.1 else text.encode()


def _json_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.decode().splitlines()
    at = rng.randrange(len(lines))
    lines[at] = _dumped(_changed(json.loads(lines[at]), rng), random.Random(0)).decode().replace("\n", " ")
    return _text_lines("\n".join(lines).encode(), rng) if rng.random() < 0.2 else "\n".join(lines).encode()


def _text_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.decode().split("\n")
    at = rng.randrange(len(lines))
    place = rng.randrange(len(lines[at]) + 1)
    kinds: tuple[Callable[[], list[str]], ...] = (
        lambda: [*lines[:at], *lines[at + 1 :]],
        lambda: [*lines[: at + 1], *lines[at:]],
        lambda: [*lines[:at], "", *lines[at:]],
        lambda: [*lines[:at], rng.choice(ODD_TEXTS), *lines[at + 1 :]],
        lambda: [*lines[:at], lines[at][:place] + rng.choice(SEPARATORS) + lines[at][place:], *lines[at + 1 :]],
        lambda: [*lines[:at], lines[at][:place] + rng.choice(ODD_TEXTS) + lines[at][place:], *lines[at + 1 :]],
        lambda: [line.replace("1", "²") for line in lines],
        lambda: sorted(lines, key=lambda _: rng.random()),
    )
    return "\n".join(rng.choice(kinds)()).encode("utf-8", "surrogatepass")


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    """Another header over the same numbers: other shapes, types, places and metadata."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = rng.choice([key for key in header if key != "__metadata__"])
    if rng.random() < 0.5:
        header = _changed(header, rng)
    elif rng.random() < 0.5:
        shape = header[name]["shape"]
        header[name]["shape"] = rng.choice((shape[::-1], [1, *shape], shape[:-1], [*shape, 1], [-1, *shape]))
    else:
        header[name]["dtype"] = rng.choice(("F64", "I64", "BOOL", "F16", "U8", "²"))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]
