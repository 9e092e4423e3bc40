"""The radius that a model was trained at."""

from seaanchor.config.schema import parse_epsilon
from seaanchor.report.sources import Entry


def trained_radius(entry: Entry) -> float | None:
    """ε that the model was trained at, where it was trained under a gradient attack; else None."""
    if entry.run is None:
        return None
    perturbation = entry.run.settings.perturbation
    if perturbation.kind not in ("pgd", "apgd"):
        return None
    return parse_epsilon("0" if perturbation.epsilon is None else perturbation.epsilon, perturbation.norm or "linf")
