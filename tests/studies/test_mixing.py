"""Weights between a model and what it was trained into."""

from pathlib import Path

import pytest
import torch

from seaanchor.encoders.load import load_model
from seaanchor.encoders.norm_scales import fold_norm_scales
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model
from studies.mixing import interpolate

MODEL = "seaanchor-tiny"


def changed(folder: Path, change) -> str:
    model = load_model(MODEL)
    with torch.no_grad():
        change(model.encoder)
    return str(export_model(model, folder))


def embedded(model: str | Path) -> torch.Tensor:
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return load_model(str(model)).encoder.eval()(pixels).detach()


def test_half_way_from_a_model_to_itself_with_folded_scales_it_answers_as_it_does(tmp_path):
    """Weights mean the same only beside the same statistics: the mean of 2 w and w is no weight between them."""
    folded = changed(tmp_path / "folded", fold_norm_scales)
    mixed = interpolate(MODEL, folded, 0.5, tmp_path / "mixed")
    torch.testing.assert_close(embedded(mixed), embedded(MODEL), rtol=1e-4, atol=1e-3)


def test_the_half_of_a_change_after_folding(tmp_path):
    def move(encoder, by=0.02):
        fold_norm_scales(encoder)
        next(p for p in encoder.parameters() if p.ndim == 4).add_(by)

    whole = changed(tmp_path / "whole", move)
    half = changed(tmp_path / "half", lambda encoder: move(encoder, 0.01))
    mixed = interpolate(MODEL, whole, 0.5, tmp_path / "mixed")
    torch.testing.assert_close(embedded(mixed), embedded(half), rtol=1e-4, atol=1e-3)
    assert (embedded(half) - embedded(MODEL)).abs().max() > 0.1


def test_a_model_with_other_statistics_is_no_end_of_a_mixture(tmp_path):
    def drift(encoder):
        next(buffer for name, buffer in encoder.named_buffers() if name.endswith("running_mean")).add_(1.0)

    other = changed(tmp_path / "other", drift)
    with pytest.raises(SeaAnchorError, match="normalises by other statistics"):
        interpolate(MODEL, other, 0.5, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()
