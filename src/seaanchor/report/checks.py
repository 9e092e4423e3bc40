"""The self-checks of a result, and of the untouched model beside it."""

from seaanchor.evaluation.results import Check, EvaluationResult


def named_checks(result: EvaluationResult) -> list[tuple[str, Check]]:
    """All self-checks by name: those of the model, then those of its reference."""
    named = list(result.checks.items())
    if result.reference is not None:
        named += [(f"reference, {name}", check) for name, check in result.reference.checks.items()]
    return named


def checks_text(result: EvaluationResult) -> str:
    """How many passed, of the model and of its reference apart."""
    text = f"{_share(result)} passed" if result.checks else "none in the file"
    beside = result.reference
    return text if beside is None or not beside.checks else f"{text}, and {_share(beside)} of the untouched model"


def _share(result: EvaluationResult) -> str:
    return f"{sum(check.passed for check in result.checks.values())} of {len(result.checks)}"
