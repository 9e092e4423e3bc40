"""Result files of the formats 1 to 3, arranged as format 4.

What changed:
    format 1 → 2: checks have a detail, robust accuracies have their norm and steps, drawings name `words` and `fonts`.
    format 2 → 3: shares say which images they count.
    format 3 → 4: every record has its own keys: a share is a value of `share` and not mixed with settings, lists of a
        suite have a name, `lettered` is `typographic_images`.
"""

from collections.abc import Callable, Mapping
from typing import Any

Data = Mapping[str, Any]
_SHARE = ("accuracy", "low", "high", "n", "right")


def to_format_4(data: Data) -> dict[str, Any]:
    """Plain data of a result of format 1, 2 or 3 with the keys of format 4; it keeps the number of its format.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: the data is not arranged as such a result.
    """
    suites = _present(data, "suites", {})
    protocol = _protocol(_present(data, "protocol", {}))
    reference = data.get("reference")
    return {
        **{key: data[key] for key in ("format", "dataset", "model") if key in data},
        **{key: str(data[key]) for key in ("pretrained", "task", "language", "skipped") if data.get(key) is not None},
        "metrics": {key: value for key, value in _present(data, "metrics", {}).items() if value is not None},
        "clean": data.get("clean"),
        "typographic_images": data.get("lettered"),
        "constant_predictor": data.get("constant_predictor"),
        "robust": [_robust(row, protocol["plans"]) for row in _present(data, "robust", [])],
        "suites": {name.replace("-", "_"): _SUITES[name](found) for name, found in suites.items() if found},
        "checks": {name: _check(value) for name, value in _present(data, "checks", {}).items()},
        "notes": list(_present(data, "notes", [])),
        "protocol": protocol,
        "environment": _present(data, "environment", {}),
        "reference": None if reference is None else to_format_4(reference),
    }


def _present(data: Data, key: str, default: Any) -> Any:
    """A value, or the default where it is missing, None or empty."""
    return data.get(key) or default


def _protocol(found: Data) -> dict[str, Any]:
    drawing = found.get("typographic")
    return {
        **found,
        "plans": list(_present(found, "plans", [])),
        "suites": list(_present(found, "suites", [])),
        "typographic": None if drawing is None else _drawing(drawing),
    }


def _drawing(plan: Data) -> dict[str, Any]:
    """How words are drawn; the first format calls the words `half` and the fonts `split`."""
    names = {"half": "words", "split": "fonts"}
    return {names.get(key, key): value for key, value in plan.items()}


def _plan(found: Data) -> dict[str, Any] | None:
    return _drawing(found["plan"]) if found.get("plan") else None


def _share(row: Data) -> dict[str, Any]:
    return {key: row[key] for key in _SHARE if key in row}


def _robust(row: Data, plans: list[Data]) -> dict[str, Any]:
    """The first format has norm and steps in the plan of that name alone."""
    plan = next((plan for plan in plans if plan["name"] == row["attack"]), {})
    settings = {"norm": None, "num_steps": None, "precision": "fp32"}
    given = {key: value for source in (plan, row) for key, value in source.items() if key in settings}
    return settings | given | {"attack": row["attack"], "epsilon": row["epsilon"], "share": _share(row)}


def _check(value: Any) -> dict[str, Any]:
    """The first format has whether it passed alone."""
    if isinstance(value, dict):
        return {"passed": bool(value.get("passed")), "detail": str(value.get("detail") or "")}
    return {"passed": bool(value), "detail": ""}


def _embedding(found: list[Data]) -> dict[str, Any]:
    return {"radii": [{"norm": None} | dict(row) for row in found]}


def _with_plan(found: Data) -> dict[str, Any]:
    return {**found, "plan": _plan(found)}


def _words_and_noise(found: Data) -> dict[str, Any]:
    attacked = {name: row for name, row in found.items() if name not in ("word", "plan")}
    return {"word": found["word"], "attacked": attacked, "plan": _plan(found)}


def _noise(found: list[Data]) -> dict[str, Any]:
    return {"levels": [{"sigma": row["sigma"], "share": _share(row)} for row in found]}


def _corruptions(found: Data) -> dict[str, Any]:
    kinds = {
        kind: [{"severity": row["severity"], "share": _share(row)} for row in rows]
        for kind, rows in _present(found, "kinds", {}).items()
    }
    return {**found, "kinds": kinds}


def _retrieval(found: Data) -> dict[str, Any]:
    return {way: dict(_present(found, way, {})) for way in ("image_to_text", "text_to_image")}


def _probe(found: Data) -> dict[str, Any]:
    linear, knn = found["linear"], found["knn"]
    return {
        "linear": _share(linear),
        "knn": _share(knn),
        "k": found.get("k", knn.get("k")),
        "penalty": linear.get("penalty"),
        "train": found.get("train"),
    }


def _drift(found: Data) -> dict[str, Any]:
    return {**found, "deciles": list(_present(found, "deciles", []))}


_SUITES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "retrieval": _retrieval,
    "embedding": _embedding,
    "typographic": _with_plan,
    "words-and-noise": _words_and_noise,
    "reading": _with_plan,
    "noise": _noise,
    "corruptions": _corruptions,
    "bias": dict,
    "interpretability": dict,
    "drift": _drift,
    "probe": _probe,
}
