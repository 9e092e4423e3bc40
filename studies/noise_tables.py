"""What studies of noise share in their tables, figures, notes and claims."""

from collections.abc import Sequence

from seaanchor.sweeps.tables import Column, share, value
from studies.declare import AboveCurve, Contrast, Line, Panel, SetColumns
from studies.noise_arms import ATTACK_STEPS, EPSILON, STEPS
from studies.workspace import EMOJI, PHOTOS

CLEAN, ROBUST = "photos clean %", f"photos {EPSILON}/255 %"
ATTACKED = f"apgd-ce {EPSILON}/255"  # the measure behind ROBUST
ROBUST_LABEL = f"robust accuracy on photos at {EPSILON}/255, %"

NOTE = (
    f"`seaanchor-tiny-32`, {{train}}. Training: {STEPS} steps of 32 photos, ε = {EPSILON}/255, two attack steps, two "
    "updates per step unless the table says otherwise, learning rate 1.5e-3. LORE's dual: rate 5e-4 (*slow*: 5e-5), "
    "λ from 1, at most 20. Numbers: {seeds}. Test: 800 photos, 100 emoji, up to 500 images of other sets, APGD-CE with "
    f"{ATTACK_STEPS} steps. *Drift*: mean squared distance of clean embeddings from the reference's, relative to their "
    "squared length."
)
SAME_BUDGET = "Budget, sets and attack as in the fronts above, {seeds}."


def robust_columns(radii: Sequence[int] = (2, EPSILON)) -> tuple[Column | SetColumns, ...]:
    """Clean and robust accuracy on photos, the same elsewhere, and how far photos drift."""
    return (
        share(CLEAN, "clean", PHOTOS),
        *(share(f"photos {e}/255 %", f"apgd-ce {e}/255", PHOTOS) for e in radii),
        SetColumns((("{set} clean %", "clean"), ("{set} 2/255 %", "apgd-ce 2/255"))),
        value("drift", "drift.distance.mean", dataset=PHOTOS),
    )


def against_robust(lines: tuple[Line, ...], y_label: str = "{} accuracy, %") -> tuple[Panel, ...]:
    """Two panels: clean accuracy on photos and on emoji against robust accuracy on photos."""
    return tuple(
        Panel(f"{name} against robust", ROBUST_LABEL, y_label.format(name), lines, ROBUST, f"{name} %")
        for name in ("photos clean", "emoji clean")
    )


def each(arms: Sequence[str]) -> tuple[Line, ...]:
    """Every arm as a point of its own colour, with its range."""
    return tuple(Line(arm, (arm,)) for arm in arms)


def above_front(label: str, arm: str, front: Sequence[str], dataset: str = PHOTOS, wanted: int = 1) -> AboveCurve:
    """More clean accuracy than a front at equal robust accuracy on the photos."""
    return AboveCurve(label, (arm,), tuple(front), ATTACKED, "clean", dataset, wanted)


def keeps_more(one: str, other: str) -> tuple[Contrast, ...]:
    """More clean accuracy on photos and emoji, and no less robust."""
    return (
        Contrast("clean photos", one, other, "clean"),
        Contrast("emoji", one, other, "clean", EMOJI),
        Contrast(f"{EPSILON}/255", one, other, ATTACKED, wanted=0),
    )
