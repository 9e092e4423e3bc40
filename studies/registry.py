"""All studies by name, and how one is run."""

from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from studies import (
    anchor_studies,
    constraint_study,
    gender_study,
    gradients,
    headline,
    lore_studies,
    other_perturbations_study,
    radius_study,
    real_baseline_studies,
    real_lore_studies,
    real_retention_study,
    real_studies,
    real_threat_studies,
    robust_slider_study,
    slider_study,
    threat_studies,
    tower_study,
    word_ablations,
    word_anchor_studies,
    word_studies,
)
from studies.declare import Section, Study
from studies.engine import run_design
from studies.sections import put_between, summary, write_section
from studies.workspace import Workspace

ORDER = (
    *("real-headline", "real-front", "real-duals", "real-anneal", "real-once", "real-rate"),
    *("real-epsilon", "real-tecoa", "real-other", "real-diverse", "real-timm"),
    *("real-words", "real-retention", "real-slider", "real-joint"),
    *("headline", "typographic", "retention", "po-beta", "po-lambda", "po-variants", "po-data"),
    *("slider", "gender", "po-gradients", "lore-front", "lore-tried", "lore-epsilon", "lore-constraint"),
    *("lore-k", "lore-tecoa", "lore-other", "lore-timm", "slider-lore", "constrained", "word-anchors"),
    *("joint", "adaptive", "mixing", "noise-anchors", "moving", "dual"),
)  # of the summary and of the list

_FOUND: dict[str, Study] = {
    study.name: study
    for module in (
        *(real_studies, real_lore_studies, real_baseline_studies, real_threat_studies),
        *(real_retention_study, headline),
        *(word_studies, word_ablations, slider_study),
        *(gender_study, gradients, lore_studies, radius_study),
        *(other_perturbations_study, word_anchor_studies),
        *(constraint_study, tower_study, robust_slider_study, threat_studies, anchor_studies),
    )
    for study in module.STUDIES
}
STUDIES = {name: _FOUND[name] for name in (*ORDER, *(name for name in _FOUND if name not in ORDER))}


def find(name: str) -> Study:
    """The study of that name.

    Raises:
        SeaAnchorError: there is none.
    """
    if name not in STUDIES:
        near = get_close_matches(name, STUDIES, n=1, cutoff=0.4)
        change = f"did you mean {near[0]}?" if near else "see `python -m studies`"
        raise SeaAnchorError(f"no study is called {name!r}", f"one of {', '.join(STUDIES)}", change)
    return STUDIES[name]


def run(study: Study, workspace: Workspace) -> Section:
    """Interpret its table of settings, or call its function."""
    return study.design(workspace) if callable(study.design) else run_design(study.design, workspace)


def reproduce(study: Study, workspace: Workspace, docs: Path | None) -> Path:
    """Run a study, or what is missing of it, and write its section."""
    workspace.output.mkdir(parents=True, exist_ok=True)
    earlier = tuple(takewhile(lambda other: other != study.name, STUDIES))
    written = write_section(study, run(study, workspace), workspace, docs, earlier)
    if docs is not None:
        put_between(docs, "summary", summary(STUDIES.values(), docs))
    return written
