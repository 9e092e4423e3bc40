"""The contract of a loaded model: small models of every library pass against the library itself, and what breaks a rule
is caught by that rule."""

import copy
from dataclasses import replace

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
    check_export,
    check_flops,
    check_images,
    check_pixels,
    check_step,
    check_texts,
)
from seaanchor.testing.rules import SIZE, small_encoder
from tools.compatibility.models import enliven, library_of


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_resnet", "timm:mobilenetv4_conv_small@64"])
def test_a_timm_tower(name):
    name, _, side = name.partition("@")
    torch.manual_seed(0)
    model = load_model(name, "none", int(side or 0) or None)
    enliven(model.module)
    check_encoder(model, library=library_of(name, model, int(side or 0) or None))


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet"])
def test_an_open_clip_model(architectures, name):
    torch.manual_seed(0)
    model = load_model(name, "none")
    enliven(model.module)
    check_encoder(model, library=library_of(f"open_clip:{name}", model, None))


@pytest.mark.parametrize("family", ["CLIPModel", "ResNetForImageClassification"])
def test_a_hugging_face_model(tmp_path, family):
    from tools.compatibility.hugging_face import library_of, written

    folder = written(family, tmp_path)
    model = load_model(f"hf:{folder}")
    check_encoder(model, library=library_of(str(folder), model))


def test_a_timm_model_has_the_epsilon_of_its_published_weights():
    """timm sets it only where it fetches the weights itself."""
    tower = load_model("timm:fbnetc_100", "none", 64).encoder.tower
    assert {norm.eps for norm in tower.modules() if isinstance(norm, nn.BatchNorm2d)} == {1e-3}


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
