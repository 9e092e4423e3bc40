"""Linear heads that go with an export: the snippets and the ONNX graph give the answers that are measured."""

import json
import re
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from seaanchor.encoders.classifiers import kind_of
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import from_encoder
from seaanchor.errors import SeaAnchorError
from seaanchor.export.folder import export_model, verify
from seaanchor.export.heads import answering
from seaanchor.types import Head, NamedHead
from tests.encoders.huggingface.models import write_model
from tests.encoders.test_timm_classifier import folder_of
from tests.export.test_card import card, run_snippet

NAMES = ("emu", "zebra", "red fox", "apple")


def with_head(model, names=NAMES, tokens="library", width=None, kind="file"):
    """The model with a linear head beside it."""
    rng = torch.Generator().manual_seed(5)
    weight_CD = torch.randn(4, width or model.encoder.dim, generator=rng)
    head = Head(weight_CD, bias_C=torch.randn(4, generator=rng), unit=False, kind=kind)
    return replace(model, stored_head=NamedHead(head, names, tokens))


@pytest.fixture
def classifying(tmp_path):
    """A timm tower with a classifier of seven classes of its own."""
    torch.manual_seed(0)
    whole = timm.create_model("test_efficientnet", num_classes=7).eval()
    names = [f"own {i}" for i in range(7)]
    return load_model(folder_of(whole, "test_efficientnet", tmp_path / "timm", label_names=names))


def assert_gives(model, logits_BC, pixels_BCHW):
    with torch.no_grad():
        ours_BC = model.stored_head.head(model.encoder(pixels_BCHW))
    assert logits_BC.shape == ours_BC.shape
    assert (torch.as_tensor(logits_BC) - ours_BC).abs().max() < 1e-4 * ours_BC.abs().max()


def normalised(encoder, pixels_BCHW):
    return (pixels_BCHW - encoder.mean) / encoder.std


@pytest.mark.parametrize("names", [NAMES, None])
@pytest.mark.parametrize("own", [True, False], ids=["beside a classifier", "alone"])
def test_the_snippet_of_timm_answers_by_the_stored_head(classifying, tmp_path, own, names):
    model = with_head(classifying if own else load_model("timm:test_vit", "none"), names)
    found = run_snippet(folder := export_model(model, tmp_path / "out"))
    pixels_BCHW = torch.rand(2, 3, model.encoder.image_size, model.encoder.image_size)
    with torch.no_grad():
        assert_gives(model, found["logits"](normalised(model.encoder, pixels_BCHW)), pixels_BCHW)
        assert found["model"](pixels_BCHW).shape[1] == (7 if own else model.encoder.dim)
    assert found.get("class_names") == (list(names) if names else None)
    text = card(folder)[1]
    assert "`head.safetensors` is a linear head of 4 classes" in text
    assert ("names are not known" in text) == (names is None) and ("own classifier is another" in text) == own


def test_the_snippets_of_other_libraries_do_too(architectures, hf_folder, tmp_path):
    torch.manual_seed(0)
    pixels_BCHW, module = torch.rand(2, 3, 32, 32), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 6))
    clip, transformer = with_head(load_model("tiny-vit", "none")), with_head(load_model(f"hf:{hf_folder}"))
    for model, format, wrap in (
        (clip, "open-clip", lambda pixels: pixels),
        (clip, "hf-vision", lambda pixels: {"pixel_values": pixels}),
        (transformer, "hf", lambda pixels: {"pixel_values": pixels}),
    ):
        with torch.no_grad():
            found = run_snippet(export_model(model, tmp_path / format, format=format))
            given = wrap(normalised(model.encoder, pixels_BCHW))
            assert_gives(model, found["logits"](given), pixels_BCHW)
    own = with_head(from_encoder(Encoder(module, image_size=32)))
    text = card(export_model(own, tmp_path / "module"))[1]
    assert "embedding = encoder(pixels)" in text


@pytest.mark.parametrize(
    "architecture",
    [
        "ViTForImageClassification",
        "ResNetForImageClassification",
        pytest.param("CLIPForImageClassification", marks=pytest.mark.exhaustive),
        pytest.param("Swinv2ForImageClassification", marks=pytest.mark.exhaustive),
    ],
)
def test_classifiers_of_transformers_answer_by_either_head(tmp_path, architecture):
    plain = load_model(f"hf:{write_model(architecture, tmp_path / 'folder')}")
    pixels_BCHW = torch.rand(2, 3, plain.encoder.image_size, plain.encoder.image_size)
    given = {"pixel_values": normalised(plain.encoder, pixels_BCHW)}
    with torch.no_grad():
        own = run_snippet(export_model(plain, tmp_path / "own"))
        ours_BC = plain.classifier.head(plain.encoder(pixels_BCHW))
        assert (own["logits"](given) - ours_BC).abs().max() < 1e-5
        assert own["class_names"] == ["cat", "dog", "red fox"]
        model = with_head(plain)
        found = run_snippet(export_model(model, tmp_path / "stored"))
        assert_gives(model, found["logits"](given), pixels_BCHW)
        assert found["model"](**given).logits.shape == (2, 3) and found["class_names"] == list(NAMES)


def test_the_snippet_of_a_timm_classifier_gives_its_answers(classifying, tmp_path):
    found = run_snippet(export_model(classifying, tmp_path / "out"))
    pixels_BCHW = torch.rand(2, 3, classifying.encoder.image_size, classifying.encoder.image_size)
    with torch.no_grad():
        ours_BC = classifying.classifier.head(classifying.encoder(pixels_BCHW))
        assert (found["logits"](normalised(classifying.encoder, pixels_BCHW)) - ours_BC).abs().max() < 1e-5
    assert found["class_names"] == [f"own {i}" for i in range(7)]


@pytest.mark.parametrize("kind", ["file", pytest.param("probe", marks=pytest.mark.exhaustive)])
def test_onnx_answers_by_the_stored_head_and_not_by_the_classifier(classifying, tmp_path, kind):
    model = with_head(classifying, kind=kind)
    assert kind_of(model, None) == "stored" and answering(model) is model.stored_head  # the same as evaluations
    folder = export_model(model, tmp_path / "out", format="onnx")
    found, side = run_snippet(folder), model.encoder.image_size
    assert found["logits"].shape == (1, 4) and found["class_names"] == list(NAMES)
    pixels_BCHW = torch.rand(3, 3, side, side)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert_gives(model, session.run(["logits"], {"pixels": pixels_BCHW.numpy()})[0], pixels_BCHW)
    said, text = card(folder)
    word = {"file": "head", "probe": "probe"}[kind]
    assert f"`head.safetensors` is a linear {word} of 4 classes: `logits` are its answers." in text
    assert said["pipeline_tag"] == "image-classification"


@pytest.mark.exhaustive
def test_without_one_the_classifier_answers_and_the_card_says_so(classifying, tmp_path):
    folder = export_model(classifying, tmp_path / "out", format="onnx")
    found = run_snippet(folder)
    assert found["logits"].shape == (1, 7) and found["class_names"][0] == "own 0"
    assert "`logits` are those of the model's own classifier" in card(folder)[1]
    text = card(export_model(classifying, tmp_path / "timm-again"))[1]
    assert "head.safetensors" not in text and "linear(" not in text


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("other", "said"), [({"tokens": "class"}, "--tokens class"), ({"tokens": None, "width": 9}, "9 dimensions")]
)
def test_a_head_of_another_embedding_answers_nowhere(classifying, tmp_path, other, said):
    """Nor does the classifier in its place, whose answers nobody measured."""
    model = with_head(classifying, **other)
    folder = export_model(model, tmp_path / "onnx", format="onnx")
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["image_embedding"]
    text = card(folder)[1]
    assert re.search(rf"It reads .*{said} and not the embedding .* no `logits`", text) and "logits =" not in text
    text = card(export_model(model, tmp_path / "timm-again"))[1]
    assert said in text and "linear(" not in text


@pytest.mark.exhaustive
def test_another_head_in_the_graph_fails_the_check(classifying, tmp_path):
    model = with_head(classifying)
    folder = export_model(model, tmp_path / "out", format="onnx")
    head = model.stored_head.head
    turned = NamedHead(replace(head, weight_CD=head.weight_CD.flip(0)), NAMES, "library")
    with pytest.raises(SeaAnchorError, match="embeddings that differ by"):
        verify(replace(model, stored_head=turned), folder, format="onnx")
    assert np.isfinite(verify(model, folder, format="onnx"))
    assert json.loads((folder.parent / "timm" / "config.json").read_text())["num_classes"] == 7
