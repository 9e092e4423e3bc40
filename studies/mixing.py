"""Mixtures of a trained model and its reference (WiSE-FT, Wortsman et al. 2022; PAINT, Ilharco et al. 2022)."""

from pathlib import Path

from seaanchor.steering.interpolation import export_between, load_ends


def mixture(arm: str, alpha: float) -> str:
    """The name in tables of (1 − α) of the reference's weights and α of an arm's.

    >>> mixture("CE", 1.0)
    'CE α=1'
    """
    return f"{arm} α={alpha:g}"


def mixed(reference: str, tuned: str, alpha: float, folder: Path) -> Path:
    """Export (1 − α)·reference + α·tuned; an earlier one in its place is replaced."""
    return export_between(*load_ends(tuned, reference), alpha, folder)
