"""A timm model's own classifier: its logits are timm's own, whatever its form, or it is refused by name."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from seaanchor.encoders.load import load_model
from seaanchor.export.folder import export_model

LINEAR = [
    "resnet10t",
    "convnext_atto",
    "mobilenetv3_small_050",
    "test_vit",
    "test_efficientnet",
    "resnetv2_18",
    "test_nfnet",
]
REFUSED = {"deit_tiny_distilled_patch16_224": "2 classifiers", "repvit_m0_9": "RepVitClassifier"}


def folder_of(model, architecture, folder, **config):
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    settings = {"architecture": architecture, "num_classes": model.num_classes, **config}
    cfg = {"input_size": list(model.pretrained_cfg["input_size"]), "mean": [0.5] * 3, "std": [0.5] * 3}
    cfg |= {key: model.pretrained_cfg.get(key) for key in ("classifier", "first_conv", "interpolation", "crop_pct")}
    (folder / "config.json").write_text(json.dumps(settings | {"pretrained_cfg": cfg}))
    return f"timm:local-dir:{folder}"


@pytest.mark.parametrize("architecture", LINEAR)
def test_logits_are_those_of_timm(tmp_path, architecture):
    torch.manual_seed(0)
    whole = timm.create_model(architecture, num_classes=7).eval()
    names = [f"class {i}" for i in range(7)]
    name = folder_of(whole, architecture, tmp_path / "f", label_names=names)
    ours, whole = load_model(name), timm.create_model(name.removeprefix("timm:"), pretrained=True).eval()
    side = ours.encoder.image_size
    pixels_BCHW = torch.rand(2, 3, side, side)
    with torch.no_grad():
        expected_BC = whole((pixels_BCHW - 0.5) / 0.5)
        embedding_BD = ours.encoder(pixels_BCHW)
        features = whole.forward_head(whole.forward_features((pixels_BCHW - 0.5) / 0.5), pre_logits=True)
    torch.testing.assert_close(embedding_BD, features.flatten(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.classifier.head(embedding_BD), expected_BC, rtol=1e-5, atol=1e-6)
    assert ours.classifier.class_names == tuple(names)
    assert ours.classifier.head.weight_CD.shape == (7, ours.encoder.dim)


@pytest.mark.parametrize("architecture", REFUSED)
def test_other_classifiers_are_refused_by_name(tmp_path, architecture):
    ours = load_model(folder_of(timm.create_model(architecture).eval(), architecture, tmp_path / "f"))
    assert ours.classifier is None and REFUSED[architecture] in ours.no_classifier
    assert ours.encoder(torch.rand(1, 3, 224, 224)).shape == (1, ours.encoder.dim)


def test_models_without_a_classifier_say_so(tmp_path):
    bare = timm.create_model("test_vit", num_classes=0)
    assert "without a classifier" in load_model(folder_of(bare, "test_vit", tmp_path / "f")).no_classifier
    assert "random" in load_model("timm:test_vit", "none").no_classifier


@pytest.mark.parametrize("count", [7, 1000])
def test_a_classifier_in_a_weights_file_has_the_files_number_of_classes(tmp_path, count):
    whole = timm.create_model("test_vit", num_classes=count).eval()
    save_file(whole.state_dict(), tmp_path / "w.safetensors")
    ours = load_model("timm:test_vit", str(tmp_path / "w.safetensors"))
    assert torch.equal(ours.classifier.head.weight_CD, whole.head.weight)
    assert ours.classifier.class_names is None  # those of ImageNet belong to timm's weights
    again = load_model(f"timm:local-dir:{export_model(ours, tmp_path / 'out')}")
    assert "label_names" not in json.loads((tmp_path / "out/config.json").read_text())
    assert again.classifier.class_names is None and len(again.classifier.head.weight_CD) == count


@pytest.mark.parametrize("architecture", ["test_vit", "test_vit.r160_in1k"])
def test_weights_from_a_file_for_a_tag_have_no_names_either(tmp_path, architecture):
    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    ours = load_model(f"timm:{architecture}", str(tmp_path / "w.safetensors"))
    assert len(ours.classifier.head.weight_CD) == 1000 and ours.classifier.class_names is None


def test_timms_own_weights_have_imagenets_names(tmp_path, monkeypatch):
    """As fetched: the configuration is that of the weights."""
    from seaanchor.encoders import timm as module

    monkeypatch.setattr(module, "_create", lambda *asked: (timm.create_model("test_vit.r160_in1k"), {}))
    assert load_model("timm:test_vit.r160_in1k").classifier.class_names[:2] == ("tench", "goldfish")


@pytest.mark.parametrize("tag", ["in1k", ""])
def test_imagenets_names_are_taken_only_where_the_weights_say_so(tmp_path, tag):
    whole = timm.create_model("test_vit", num_classes=1000).eval()
    name = folder_of(whole, "test_vit", tmp_path / "f")
    config = json.loads((tmp_path / "f/config.json").read_text())
    config["pretrained_cfg"]["tag"] = f"r160_{tag}"
    (tmp_path / "f/config.json").write_text(json.dumps(config))
    names = load_model(name).classifier.class_names
    assert (names is not None) == (tag == "in1k") and (not names or names[0] == "tench")
