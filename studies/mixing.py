"""Weights between a reference and what it was trained into (WiSE-FT, Wortsman et al. 2022; PAINT, Ilharco et al.
2022)."""

from pathlib import Path

import torch
from torch import Tensor

from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.encoders.norm_scales import fold_norm_scales
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model


def mixture(arm: str, alpha: float) -> str:
    """The name in tables of (1 − α) of the reference's weights and α of an arm's.

    >>> mixture("CE", 1.0)
    'CE α=1'
    """
    return f"{arm} α={alpha:g}"


def interpolate(reference: str, tuned: str, alpha: float, output: Path) -> Path:
    """Export (1 − α)·reference + α·tuned, weight by weight; what is there already is kept.

    Weights mean the same only beside the same statistics of normalisations. Where the tuned model's were folded
    (`fold_norms`), the reference's are folded first.

    Args:
        reference, tuned: models of one architecture.
        alpha: 0 gives the reference, 1 the tuned model; outside [0, 1] extrapolates.
        output: folder to write.

    Raises:
        SeaAnchorError: the two have other weights by name or shape, or other statistics.
    """
    if output.is_dir():
        return output
    base, model = load_model(reference), load_model(tuned)
    if not _same_statistics(base.encoder, model.encoder):
        fold_norm_scales(base.encoder)
    theirs = dict(base.encoder.named_parameters())
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if name not in theirs or theirs[name].shape != parameter.shape:
                found = f"{tuned} has weights {name} that {reference} lacks"
                raise SeaAnchorError(found, "two models of one architecture", "name the model it was trained from")
            parameter.copy_(torch.lerp(theirs[name], parameter, alpha))
    if not _same_statistics(base.encoder, model.encoder):
        found = f"{tuned} normalises by other statistics than {reference}"
        raise SeaAnchorError(found, "a model trained with frozen statistics", "name the model it was trained from")
    return export_model(model, output)


def _same_statistics(one: Encoder, other: Encoder) -> bool:
    """Whether all buffers agree, up to the rounding of an export in half precision."""
    ours, theirs = dict(one.named_buffers()), dict(other.named_buffers())
    return ours.keys() == theirs.keys() and all(_alike(ours[name], theirs[name]) for name in ours)


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one - other).abs() <= 1e-3 * other.abs().max()).all())
