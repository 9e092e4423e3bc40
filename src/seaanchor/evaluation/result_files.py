"""Results as JSON: `encode` and `decode` are the only two functions that know the keys of result files.

Files of format 4 have the fields of `EvaluationResult`, with the keys of CLIP_benchmark's result files first; their
JSON schema is `evaluation/schema/result-4.json`. Files of the formats 1, 2 and 3 are arranged as format 4 first, by
`evaluation.old_formats`, and then read by the same code.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.old_formats import to_format_4
from seaanchor.evaluation.results import FORMAT, Check, EvaluationResult
from seaanchor.utils import plain_files
from seaanchor.utils.json_text import not_finite
from seaanchor.utils.records import BadValueError, from_plain, to_plain

FIRST = ("format", "dataset", "model", "pretrained", "task", "metrics", "language")
"""The keys that every file begins with."""
WRITTEN, RESTORE = "JSON as Sea Anchor wrote it", "remove it and evaluate again, or restore it"


def encode(result: EvaluationResult) -> dict[str, Any]:
    """A result as plain data, ready for JSON; `decode` turns it into the same result again."""
    reference = None if result.reference is None else encode(result.reference)
    data = to_plain(replace(result, reference=None, format=FORMAT)) | {"reference": reference}
    return {key: data[key] for key in FIRST} | {key: value for key, value in data.items() if key not in FIRST}


def decode(data: Mapping[str, Any], name: str = "the result") -> EvaluationResult:
    """A result from plain data of any format up to this one.

    Args:
        data: what `encode` gives, or what an older version wrote.
        name: of the file, for errors.

    Raises:
        SeaAnchorError: a newer format, an unknown one, a missing key, or a value of another type.
    """
    version = data.get("format")
    if type(version) is int and version > FORMAT:
        raise SeaAnchorError(
            f"{name} has format {version}, of a newer version of Sea Anchor",
            f"format 1 to {FORMAT}",
            "install that version, or evaluate again with this one",
        )
    if type(version) is not int or version not in range(1, FORMAT + 1):
        raise SeaAnchorError(
            f"{name} has format {version}", f"format 1 to {FORMAT}", "evaluate again with this version"
        )
    try:
        arranged = data if version == FORMAT else to_format_4(data)
        return from_plain(EvaluationResult, arranged)
    except BadValueError as error:
        raise SeaAnchorError(
            f"{name}: {error}", f"a result file of format {version}", "evaluate again, or restore the file"
        ) from None
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise SeaAnchorError(
            f"{name} is not arranged as a result of format {version} ({type(error).__name__}: {error})",
            "a file that `seaanchor evaluate` wrote",
            "evaluate again, or restore the file",
        ) from None


def with_finite_check(result: EvaluationResult) -> EvaluationResult:
    """The result, with a failed check where a number in it is not finite: its file holds null in its place."""
    places = list(not_finite(encode(result)))
    if not places:
        return result
    detail = f"{len(places)} are not: {', '.join(places[:3])}"
    return replace(result, checks=result.checks | {"result: numbers are finite": Check(False, detail)})


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
    return plain_files.read_json(path, WRITTEN, RESTORE)


def damaged(path: Path, where: str) -> SeaAnchorError:
    """The error of a file that is not whole."""
    return SeaAnchorError(f"{path} is cut short or damaged ({where})", WRITTEN, RESTORE)


def is_result(data: Any) -> bool:
    """Whether plain data looks like a result of any format, newer ones too."""
    return isinstance(data, dict) and "dataset" in data and "model" in data and ("clean" in data or "suites" in data)
