"""The model that a run started from, and its export with the trained map at one exponent t."""

from dataclasses import replace
from pathlib import Path

from seaanchor.adapters.linear_map import decompose
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.errors import SeaAnchorError, note
from seaanchor.export.folder import STAGING, export_model
from seaanchor.export.trained import folded, read_map
from seaanchor.report.model_card import origin_of
from seaanchor.training.start import load_start

AMPLIFIED = 10  # times a direction may grow before the export says so


def base_model(run: Path) -> LoadedModel:
    """The untouched model a run started from.

    Raises:
        SeaAnchorError: the folder holds no run, or its model is gone or has changed.
    """
    return load_start(run)


def export_at(run: Path, t: float, output: Path) -> Path:
    """Write the model with W_t folded into both projections; told where that magnifies a direction tenfold.

    Raises:
        SeaAnchorError: no linear map in the run, or one of another model; a t out of range or so far out that the map
            loses rank, an output folder in use, or a model whose projections cannot take a map.
    """
    if output.exists() and any(path.name != STAGING for path in output.iterdir()):
        raise SeaAnchorError(f"{output} is not empty", "a new or empty folder", "name another --output")
    read_map(run)  # before a model is loaded
    model = base_model(run)
    spectrum = decompose(read_map(run, model))
    spectrum.check_rank(t)
    weight_DD = spectrum.without_rotation(t)
    if (largest := spectrum.powers(t).max().item()) > AMPLIFIED:
        note(
            f"at t = {t:g} the map magnifies a direction {largest:,.0f}-fold, as its singular values go down to "
            f"{spectrum.s_R.min():.2g}: measure it with `seaanchor steer {run} --data DATA --ts {t:g} 0 1` before use"
        )
    origin = replace(
        origin_of(str(run / "export")), note=f"The run's linear map is folded in at the exponent t = {t:g}."
    )
    with folded(model, weight_DD) as at_t:
        return export_model(at_t, output, origin=origin)
