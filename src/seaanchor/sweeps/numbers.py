"""Every number of a result under a name that fits into a table head."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from seaanchor.evaluation.results import EvaluationResult
from seaanchor.evaluation.statistics import Share

Numbers = dict[str, Share]
"""Name of a measure → its value; a plain number is a share without an interval."""

SUITES = {"words_and_noise": "words-and-noise"}  # other suites are named as their fields
LISTS = {"levels", "radii", "attacked"}  # fields that only hold several of one thing: not part of a name
KEYS = ("epsilon", "sigma", "severity")  # which of several it is


def numbers_of(result: EvaluationResult) -> Numbers:
    """Every share of a result by its name: `clean`, `apgd 2/255`, `typographic.attacked`, `drift.distance.mean`.

    A plain number is a share with its `accuracy` alone. Captioned images have no `clean`, and those that carry a word
    have `lettered` in its place.
    """
    plain = {"clean": result.clean, "lettered": result.typographic_images}
    found: Numbers = {name: share for name, share in plain.items() if share is not None}
    found |= {f"{row.attack} {round(255 * row.epsilon, 3):g}/255": row.share for row in result.robust.rows}
    for field in fields(result.suites):
        _collect(found, SUITES.get(field.name, field.name), getattr(result.suites, field.name))
    return found


def _collect(found: Numbers, name: str, value: Any) -> None:
    """Add the shares and numbers inside a value; settings of a measurement are none."""
    if isinstance(value, Share):
        found[name] = value
    elif isinstance(value, tuple):
        for entry in value:
            _collect_entry(found, name, entry)
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            _collect(found, f"{name}.{key}", inside)
    elif is_dataclass(value):
        for field in fields(value):
            inside = getattr(value, field.name)
            nested = field.name in LISTS and isinstance(inside, tuple | Mapping)
            if field.name != "plan":
                _collect(found, name if nested else f"{name}.{field.name}", inside)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found[name] = Share(float(value))


def _collect_entry(found: Numbers, name: str, entry: Any) -> None:
    """One of several measurements that differ in a radius, a strength or a severity."""
    if key := next((key for key in KEYS if hasattr(entry, key)), None):
        named = f"{name}.{key}={getattr(entry, key):.4g}"
        inside = {field.name: getattr(entry, field.name) for field in fields(entry) if field.name != key}
        _collect(found, named, inside.get("share", inside))
