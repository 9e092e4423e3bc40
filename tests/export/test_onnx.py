"""ONNX: onnxruntime gives what torch gives for any batch, pictures are prepared as the metadata say, and what cannot be
exported is named."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import from_encoder
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model, verify


def session(folder):
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(architectures, tmp_path_factory):
    torch.manual_seed(3)
    model = load_model("tiny-vit", "none", preprocess="resize_mode=squash,interpolation=bilinear,mean=0.5,std=0.25")
    return model, export_model(model, tmp_path_factory.mktemp("onnx") / "out", format="onnx")


def test_a_batch_of_any_size_and_plain_metadata(exported):
    model, folder = exported
    run = session(folder)
    for batch in (1, 2, 7):
        pixels = torch.rand(batch, 3, 32, 32)
        (theirs,) = run.run(None, {"pixels": pixels.numpy()})
        ours = model.encoder(pixels)
        assert theirs.shape == (batch, 24)
        assert np.abs(theirs - ours.detach().numpy()).max() < 1e-4 * ours.norm(dim=-1).max()
    said = {prop.key: json.loads(prop.value) for prop in onnx.load(folder / "model.onnx").metadata_props}
    assert said["size"] == 32 and said["resize_mode"] == "squash" and said["interpolation"] == "bilinear"
    assert said["mean"] == [0.5] * 3 and said["std"] == [0.25] * 3 and "crop" in said
    assert "[0, 1]" in said["input"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("interpolation", '"nearest"', "reads pictures otherwise"),
        ("mean", "[0.4, 0.5, 0.5]", "reads pictures otherwise"),
    ],
)
def test_changed_metadata_fail_the_check(exported, tmp_path, key, value, said):
    model, folder = exported
    graph = onnx.load(folder / "model.onnx")
    next(prop for prop in graph.metadata_props if prop.key == key).value = value
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(SeaAnchorError, match=said):
        verify(model, tmp_path, format="onnx")


def test_changed_weights_fail_the_check(exported, tmp_path):
    model, folder = exported
    graph = onnx.load(folder / "model.onnx")
    weight = max(graph.graph.initializer, key=lambda one: np.prod(one.dims))
    weight.CopyFrom(onnx.numpy_helper.from_array(1.01 * onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(SeaAnchorError, match="embeddings that differ by"):
        verify(model, tmp_path, format="onnx")


def test_a_fixed_batch_fails_the_check(exported, tmp_path):
    model, folder = exported
    graph = onnx.load(folder / "model.onnx")
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(graph, tmp_path / "model.onnx")
    with pytest.raises(SeaAnchorError, match="does not load again"):
        verify(model, tmp_path, format="onnx")


def test_other_answers_fail_the_check(exported, monkeypatch):
    """Two of the embeddings that lie apart by less than the tolerance."""
    from seaanchor.export import folder as module
    from seaanchor.export.photos import Agreement

    model, folder = exported
    monkeypatch.setattr(module, "agreement", lambda model, theirs: Agreement(0.0, 39, 40, "texts"))
    with pytest.raises(SeaAnchorError, match="answers 1 of 40 photos otherwise"):
        verify(model, folder, format="onnx")


class Tower(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind, self.positions = nn.Conv2d(3, 4, 4, 4), kind, nn.Embedding(16, 4)

    def forward(self, x):
        x = self.conv(x).flatten(2) + self.positions(torch.arange(16)).T  # an operator called `embedding`
        if self.kind == "eigenvalues":
            return torch.linalg.eigvalsh(x @ x.mT + torch.diag(torch.arange(4.0)))
        if self.kind == "branch":
            return x.mean(-1) if x.sum() > 0 else x.amax(-1)
        return x.mean(-1)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("eigenvalues", "the operator aten._linalg_eigh, which"), ("branch", r"at `return x.mean\(-1\) if x.sum")],
)
def test_what_onnx_cannot_do_is_named(tmp_path, kind, said):
    model = from_encoder(Encoder(Tower(kind), image_size=16))
    with pytest.raises(SeaAnchorError, match=said):
        export_model(model, tmp_path / "out", format="onnx")
    assert not list(tmp_path.iterdir())


def test_a_module_of_ones_own_and_a_missing_extra(tmp_path, monkeypatch):
    model = from_encoder(Encoder(Tower("plain"), image_size=16, mean=0.5, std=0.5))
    folder = export_model(model, tmp_path / "out", format="onnx")
    pixels = torch.rand(3, 3, 16, 16)
    (theirs,) = session(folder).run(None, {"pixels": pixels.numpy()})
    assert np.allclose(theirs, model.encoder(pixels).detach().numpy(), atol=1e-6)
    with pytest.raises(SeaAnchorError, match="--half with the format onnx"):
        export_model(model, tmp_path / "half", format="onnx", half=True)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SeaAnchorError, match="onnxscript not installed") as caught:
        export_model(model, tmp_path / "other", format="onnx")
    assert "seaanchor[onnx]" in caught.value.change


def test_a_classifier_gives_logits(tmp_path):
    from dataclasses import replace

    from seaanchor.types import Head, NamedHead

    model = from_encoder(Encoder(Tower("plain"), image_size=16))
    named = NamedHead(Head(torch.randn(5, 4), 1.0, torch.randn(5), unit=False, kind="file"), ("a", "b", "c", "d", "é"))
    folder = export_model(replace(model, stored_head=named), tmp_path / "out", format="onnx")
    pixels = torch.rand(3, 3, 16, 16)
    (theirs,) = session(folder).run(["logits"], {"pixels": pixels.numpy()})
    assert np.allclose(theirs, named.head(model.encoder(pixels)).detach().numpy(), atol=1e-5)
    names = session(folder).get_modelmeta().custom_metadata_map["class_names"]
    assert json.loads(names) == ["a", "b", "c", "d", "é"]
