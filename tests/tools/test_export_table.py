"""The tool behind the table of docs/guide/exports.md."""

from dataclasses import replace

import pytest
import torch

from seaanchor.encoders.load import load_model
from seaanchor.export.photos import agreement
from tools.export_table import rows


@pytest.mark.exhaustive
def test_a_row_for_every_format_that_has_a_place(clip_folder, tmp_path):
    found = list(rows("a ViT", load_model(str(clip_folder)), tmp_path))
    assert [row.format for row in found] == ["open-clip", "hf-vision", "onnx"]
    assert all(row.found.difference < 1e-4 and row.found.same == row.found.n == 40 for row in found)
    assert str(found[0]).endswith("40 of 40 (class texts) |")


def test_other_answers_are_counted(clip_folder):
    """Against a tower whose embeddings are turned, differences and answers show it."""
    from seaanchor.export.reloaded import Reloaded

    model = load_model(str(clip_folder))
    mean, std = (getattr(model.encoder, name).flatten().tolist() for name in ("mean", "std"))
    torch.manual_seed(0)
    turned = torch.linalg.qr(torch.randn(16, 16))[0]
    theirs = Reloaded(lambda pixels: model.encoder.tower(pixels) @ turned, mean, std)
    for other in (model, replace(model, encode_texts=None)):
        found = agreement(other, theirs)
        assert found.difference > 0.1
    assert agreement(model, theirs).same < 40
    assert agreement(replace(model, encode_texts=None), theirs).same == 40  # neighbours do not turn
    upside_down = Reloaded(lambda pixels: model.encoder.tower(pixels.flip(2)), mean, std)
    assert agreement(replace(model, encode_texts=None), upside_down).same < 40
    same = agreement(model, Reloaded(model.encoder.tower, mean, std))
    assert same.difference == pytest.approx(0, abs=1e-5) and same.same == same.n == 40 and same.answers == "texts"
