"""The contract of a loaded model: small models of every library pass against the library itself, and what breaks a rule
is caught by that rule."""

import copy
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from torch import nn

from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.encoders.own_module import from_encoder
from seaanchor.errors import SeaAnchorError
from seaanchor.testing import check_encoder
from seaanchor.testing.library import Library, photos
from seaanchor.testing.loaded_model import (
    check_classifier,
    check_export,
    check_flops,
    check_images,
    check_pixels,
    check_step,
    check_texts,
)
from seaanchor.testing.rules import SIZE, small_encoder
from tools.compatibility.hugging_face import written
from tools.compatibility.models import library_of, loaded, made


@pytest.mark.parametrize(
    "name",
    [
        "timm:test_vit",
        "timm:test_resnet",
        pytest.param("timm:mobilenetv4_conv_small@64", marks=pytest.mark.exhaustive),
        "hf:CLIPModel",
        "hf:ResNetForImageClassification",
    ],
)
def test_a_model_as_its_library_has_it(tmp_path, name):
    name, _, side = name.partition("@")
    if name.startswith("hf:"):
        name = f"hf:{written(name.removeprefix('hf:'), tmp_path)}"
    check_made(name, int(side or 0) or None, tmp_path)


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet"])
def test_an_open_clip_model(architectures, tmp_path, name):
    check_made(f"open_clip:{name}", None, tmp_path)


def check_made(name: str, side: int | None, folder: Path) -> None:
    torch.manual_seed(0)
    this = made(name, side, folder)
    model = loaded(this, side)
    check_encoder(model, library=library_of(this, model, side))
    assert (model.classifier is None) == (not name.startswith("timm:") and "Classification" not in name)


def test_a_timm_model_has_the_epsilon_of_its_published_weights():
    """timm sets it only where it fetches the weights itself."""
    tower = load_model("timm:fbnetc_100", "none", 64).encoder.tower
    assert {norm.eps for norm in tower.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-3}


def test_a_classifier_of_several_layers_does_not_keep_a_file_from_loading(tmp_path):
    """LeViT's file holds a normalisation before the linear layer."""
    this = made("timm:levit_128s", None, tmp_path)
    model = loaded(this, None)
    check_images(model, library_of(this, model, None))
    assert model.classifier is None and "2 classifiers" in model.no_classifier


def test_timm_towers_without_an_embedding_are_refused(monkeypatch):
    with pytest.raises(SeaAnchorError, match="timm:gemma4_vit_167m_enc is a Gemma4VitEncoder, the tower of a larger"):
        load_model("timm:gemma4_vit_167m_enc", "none")
    monkeypatch.setattr(timm.models.VisionTransformer, "forward", lambda self, x: self.forward_features(x))
    with pytest.raises(SeaAnchorError, match=r"timm:test_vit gives \(1, 101, 64\)"):
        load_model("timm:test_vit", "none")
    monkeypatch.setattr(timm.models.VisionTransformer, "forward", lambda self, x, y: x)
    with pytest.raises(SeaAnchorError, match="timm:test_vit fails on an image of 160 x 160 pixels: TypeError"):
        load_model("timm:test_vit", "none")


def test_another_classifier_than_the_librarys_is_caught(tmp_path):
    this = made("timm:test_resnet", None, tmp_path)
    model = loaded(this, None)
    check_classifier(model, library_of(this, model, None))
    with torch.no_grad():
        this.whole.fc.bias += 1
    with pytest.raises(AssertionError, match="images are classified as the library does"):
        check_classifier(model, library_of(this, model, None))


def test_a_module_of_ones_own():
    check_encoder(from_encoder(Encoder(small_encoder(), SIZE)))


@pytest.fixture(scope="module")
def model(clip_folder) -> LoadedModel:
    return load_model(str(clip_folder))


@pytest.fixture(scope="module")
def library(clip_folder) -> Library:
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    theirs.eval()
    return Library(theirs.encode_image, lambda texts: theirs.encode_text(tokenizer(texts)), transform)


def test_other_values_than_the_librarys_are_caught(model, library):
    for check in (check_images, check_texts, check_pixels):
        check(model, library)
    moved = replace(library, encode_image=lambda x: library.encode_image(x) + 0.01)
    with pytest.raises(AssertionError, match="images are embedded as the library does"):
        check_images(model, moved)
    moved = replace(library, encode_texts=lambda texts: library.encode_texts(texts) * 1.01)
    with pytest.raises(AssertionError, match="texts are embedded as the library does"):
        check_texts(model, moved)
    moved = replace(library, transform=lambda image: library.transform(image.transpose(0)))
    with pytest.raises(AssertionError, match="pictures become pixels as in the library: 0-"):
        check_pixels(model, moved)


def test_texts_that_are_all_alike_are_caught(model):
    with pytest.raises(AssertionError, match="different texts"):
        check_texts(replace(model, encode_texts=lambda texts: torch.ones(len(texts), 16)), Library())
    with pytest.raises(AssertionError, match="does not depend on the others"):
        check_texts(replace(model, encode_texts=lambda texts: torch.randn(len(texts), 16)), Library())


class Faulty(nn.Module):
    """A small tower with batch normalisation, and what `fault` names done wrong."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.tower, self.head = fault, small_encoder(), nn.Linear(8, 8)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.fault == "buffer" and self.training:
            self.seen += 1
        hidden = self.tower(x)
        if self.fault == "cut":
            hidden = hidden.detach() + 0 * hidden
        out = self.head(hidden)
        return out / 0 if self.fault == "infinite" and self.training else out


def test_a_step_that_breaks_a_rule_is_caught():
    for fault, words in {"": "", "buffer": "buffers do not move: tower.seen", "infinite": "loss of a step"}.items():
        made = replace(from_encoder(Encoder(Faulty(""), SIZE)), encoder=Encoder(Faulty(fault), SIZE).eval())
        made = replace(made, module=made.encoder.tower)
        if words:
            with pytest.raises(AssertionError, match=words):
                check_step(made)
        else:
            before = copy.deepcopy(made.encoder.state_dict())
            check_step(made)
            assert all(torch.equal(made.encoder.state_dict()[key], value) for key, value in before.items())


def test_an_export_of_other_weights_is_caught():
    model = load_model("timm:test_vit", "none")
    moved = replace(model, encoder=copy.deepcopy(model.encoder))
    moved.encoder.tower.patch_embed.proj.weight.data.normal_()
    with pytest.raises(SeaAnchorError, match="gives embeddings that differ"):
        check_export(moved)


def test_operations_that_are_not_counted_are_caught(monkeypatch):
    model = load_model("timm:test_resnet", "none")
    check_flops(model)
    monkeypatch.setattr("seaanchor.testing.loaded_model.forward_flops", lambda encoder, size: 1e9)
    with pytest.raises(AssertionError, match="a forward costs what torch counts"):
        check_flops(model)


def test_photos_have_many_shapes_and_modes(tmp_path):
    from PIL import Image

    modes, shapes = set(), set()
    for file in photos(tmp_path):
        with Image.open(file) as image:
            modes.add(image.mode)
            shapes.add(image.size)
    assert modes == {"L", "P", "CMYK", "RGB"} and len(shapes) == 6


def test_the_timm_names_exist():
    from tools.compatibility.names import TIMM

    known = set(timm.list_models())
    assert len(TIMM) >= 150 and all(name.partition("@")[0].partition(".")[0] in known for name in TIMM)
