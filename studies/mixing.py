"""Weights between a reference and what it was trained into (WiSE-FT, Wortsman et al. 2022; PAINT, Ilharco et al.
2022)."""

from pathlib import Path

import torch

from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model


def interpolate(reference: str, tuned: str, alpha: float, output: Path) -> Path:
    """Export (1 − α)·reference + α·tuned, tensor by tensor; what is there already is kept.

    Args:
        reference, tuned: models of one architecture.
        alpha: 0 gives the reference, 1 the tuned model; outside [0, 1] extrapolates.
        output: folder to write.

    Raises:
        SeaAnchorError: the two have other weights by name or shape.
    """
    if output.is_dir():
        return output
    base, model = load_model(reference), load_model(tuned)
    theirs = dict(base.encoder.named_parameters())
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if name not in theirs or theirs[name].shape != parameter.shape:
                found = f"{tuned} has weights {name} that {reference} lacks"
                raise SeaAnchorError(found, "two models of one architecture", "name the model it was trained from")
            parameter.copy_(torch.lerp(theirs[name], parameter, alpha))
    return export_model(model, output)
