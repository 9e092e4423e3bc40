"""Run folders for the page: one with a linear map over the embedded model, one with an export."""

import shutil
from pathlib import Path

import pytest
import torch

from seaanchor.export.trained import MAP
from seaanchor.utils.checkpoint import save_state

HARDENED = Path(__file__).parents[2] / "models" / "seaanchor-tiny-fare"


@pytest.fixture
def steered_run(tmp_path):
    """A map that stretches and shrinks directions by up to two times, without a rotation."""
    folder = tmp_path / "steered"
    folder.mkdir()
    (folder / "config.yaml").write_text("model: seaanchor-tiny\n")
    rng = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(128, 128, generator=rng))
    save_state(folder / MAP, {"weight": basis.T @ torch.diag(torch.linspace(0.2, 2, 128)) @ basis})
    return folder


@pytest.fixture
def hardened_run(tmp_path):
    """A run whose export is the FARE model of the repository."""
    folder = tmp_path / "hardened"
    folder.mkdir()
    (folder / "config.yaml").write_text("model: seaanchor-tiny\n")
    shutil.copytree(HARDENED, folder / "export")
    return folder
