"""The radius that a model was trained at."""

from seaanchor.config.schema import parse_epsilon
from seaanchor.report.sources import Entry


def trained_radius(entry: Entry) -> float | None:
    """ε that the model was trained at, where it was trained under a gradient attack; else None."""
    perturbation = (entry.run.config if entry.run else {}).get("perturbation") or {}
    if perturbation.get("kind") not in ("pgd", "apgd"):
        return None
    return parse_epsilon(perturbation.get("epsilon", "0"), perturbation.get("norm", "linf"))
