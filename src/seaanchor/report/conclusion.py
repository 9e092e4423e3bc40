"""What a page concludes, in one sentence for each model, made from the numbers alone."""

from collections.abc import Sequence

from seaanchor.report.glance import Glance
from seaanchor.report.measures import CLEAN, TYPOGRAPHIC_IMAGES, Measure
from seaanchor.report.tables import Found
from seaanchor.report.text import change_text, value_text
from seaanchor.utils.text import plural

HARMED = ("robust", "typographic", TYPOGRAPHIC_IMAGES)
"""What is measured of images that something was done to."""
TOLD = (CLEAN, *HARMED, "retrieval", "segmentation")
UNTOLD = ("drawn word wins",)  # the accuracy with the word on says it


def conclusion(glance: Glance, place: int) -> str:
    """What one model gained, at what cost, and what is undecided, with the number of images.

    Args:
        glance: the numbers at the top of a data set.
        place: of the model, among those of the data set.
    """
    found = glance.dataset.found[place]
    cells = [cells[place] for _, _, cells in glance.columns]
    told = [m for m in cells if m and m.suite in TOLD and m.label not in UNTOLD]
    if not told:
        return ""
    text = _compared(found, told) if any(m.change for m in told) else _alone(found, told)
    images = next((m.value.n for m in told if m.value.n), None)
    of = f"on {plural(images, 'image')} of {glance.dataset.name}" if images else f"on {glance.dataset.name}"
    if _failed(found):
        return f"Self-checks failed, so this is not to be trusted: {of}, {text}."
    return f"{of[0].upper()}{of[1:]}, {text}."


def _failed(found: Found) -> bool:
    """Whether a self-check of the model or of its reference failed."""
    results = [result for file in found.results for result in (file.result, file.result.reference) if result]
    return any(not check.passed for result in results for check in result.checks.values())


def _compared(found: Found, told: Sequence[Measure]) -> str:
    """Gains and losses against the untouched model, then what is undecided."""
    judged = [m for m in told if m.change]
    gains, losses = ([_moved(m) for m in judged if m.verdict == verdict] for verdict in ("gain", "loss"))
    open_ = [_undecided(m) for m in judged if m.verdict not in ("gain", "loss")]
    name = found.entry.label
    if gains and losses:
        text = f"{name} gains {_listed(gains)} and loses {_listed(losses)}"
    elif gains:
        text = f"{name} gains {_listed(gains)}, and no loss is shown"
    elif losses:
        text = f"{name} loses {_listed(losses)}, and no gain is shown"
    else:
        text = f"no difference between {name} and the untouched model is shown"
    missing = _missing(judged)
    return "; ".join([text, *([f"the change is undecided {_listed(open_)}"] if open_ else []), *missing])


def _missing(judged: Sequence[Measure]) -> list[str]:
    """What a reader would expect and was not measured beside the untouched model."""
    suites = {m.suite for m in judged}
    if not suites & {CLEAN, *HARMED}:
        return []
    clean = [] if suites & {CLEAN, TYPOGRAPHIC_IMAGES} else ["the cost on clean images was not measured"]
    return clean + ([] if suites & set(HARMED) else ["nothing was measured under attack"])


def _alone(found: Found, told: Sequence[Measure]) -> str:
    values = _listed([f"{value_text(m.value, m.percent)} % {_where(m)[0]}" for m in told])
    return (
        f"{found.entry.label} reaches {values}; it was measured without the untouched model, so nothing is known of "
        "gains and costs"
    )


def _moved(m: Measure) -> str:
    """How far a number moved, and from where to where."""
    points = change_text(m.change, m.percent).lstrip("+\N{MINUS SIGN}")
    what, where = _where(m)
    ends = f"from {value_text(m.reference, m.percent)} to {value_text(m.value, m.percent)} %"
    return f"{points} points {what} ({f'{where}, ' if where else ''}{ends})"


def _undecided(m: Measure) -> str:
    return f"{_where(m)[0]} ({change_text(m.change, m.percent)} points)"


def _where(m: Measure) -> tuple[str, str]:
    """What was measured, and what it depends on."""
    return {
        CLEAN: ("on clean images", ""),
        TYPOGRAPHIC_IMAGES: ("on the images with their words", ""),
        "robust": (
            "under attack",
            f"{m.group.split(',')[0]} at {m.label}".replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"),
        ),
        "typographic": ("with a wrong word drawn on", ""),
        "retrieval": ("in retrieval", m.label),
        "segmentation": ("of mean IoU", ""),
    }[m.suite]


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
