"""Linear heads as people write them: read as what they are, or refused."""

import json
import random
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from seaanchor.encoders.classifiers import linear_head, with_stored_head
from seaanchor.encoders.encoder import Encoder, LoadedModel
from seaanchor.encoders.head_file import check_width, head_digest, read_head, tokens_read, write_head
from seaanchor.errors import SeaAnchorError
from seaanchor.types import Head, NamedHead

C, D = 3, 5


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(D, C).requires_grad_(False)


@pytest.mark.parametrize("prefix", ["", "fc.", "head.", "classifier.", "linear.", "module.", "module.fc.", "head.fc."])
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_every_prefix_and_container(tmp_path, prefix, ending):
    state, file = {prefix + key: value for key, value in layer().state_dict().items()}, tmp_path / f"h.{ending}"
    save_file(state, file) if ending == "safetensors" else torch.save({"state_dict": state}, file)
    named, embedding_BD = read_head(file), torch.randn(4, D)
    torch.testing.assert_close(named.head(embedding_BD), layer()(embedding_BD), rtol=0, atol=1e-6)
    assert (named.head.kind, named.head.unit, named.class_names) == ("file", False, None)


def test_a_head_without_bias_and_one_of_a_pointwise_convolution(tmp_path):
    save_file({"weight": layer().weight[:, :, None, None].contiguous()}, tmp_path / "h.safetensors")
    named = read_head(tmp_path / "h.safetensors")
    assert named.head.bias_C is None
    assert torch.equal(named.head.weight_CD, layer().weight)


@pytest.mark.parametrize(
    "data", [["a", "b", "c"], {"id2label": {"0": "a", "2": "c", "1": "b"}}, {"0": "a", "1": "b", "2": "c"}]
)
def test_class_names_beside_the_file(tmp_path, data):
    save_file(layer().state_dict(), tmp_path / "h.safetensors")
    (tmp_path / "h.json").write_text(json.dumps(data))
    assert read_head(tmp_path / "h.safetensors").class_names == ("a", "b", "c")


def test_what_was_written_is_read(tmp_path):
    named = NamedHead(Head(layer().weight, bias_C=layer().bias, unit=False, kind="probe"), ("a", "b", "ü"))
    write_head(named, tmp_path / "h.safetensors")
    again = read_head(tmp_path / "h.safetensors")
    assert again.class_names == named.class_names and again.head.kind == "probe"
    assert head_digest(again) == head_digest(named)
    other = NamedHead(Head(layer().weight + 1e-6, bias_C=layer().bias, unit=False, kind="probe"), named.class_names)
    assert head_digest(other) != head_digest(named)


@pytest.mark.parametrize("tokens", [None, "class", "mean"])
def test_a_head_answers_for_the_tokens_it_was_made_for_alone(tmp_path, tokens):
    """Class token and mean of the patches have as many dimensions, and other values."""
    tower = timm.create_model("test_vit", num_classes=0).eval()
    model = LoadedModel("tower", "timm", Encoder(tower, 160, tokens=tokens).eval(), tower, 1.0, None)
    dim = model.encoder.dim
    own = NamedHead(Head(torch.eye(2, dim), unit=False), ("a", "b"), tokens_read(model.encoder))
    write_head(own, tmp_path / "head.safetensors")
    assert read_head(tmp_path / "head.safetensors").tokens == (tokens or "library")
    assert with_stored_head(model, tmp_path).stored_head is not None
    assert linear_head(model, "file", str(tmp_path / "head.safetensors"), lambda: own) is not None
    for other in {"library", "class", "mean"} - {tokens or "library"}:
        write_head(replace(own, tokens=other), tmp_path / "head.safetensors")
        assert with_stored_head(model, tmp_path).stored_head is None
        with pytest.raises(SeaAnchorError, match="set --tokens to that of the head"):
            linear_head(model, "file", str(tmp_path / "head.safetensors"), lambda: own)


@pytest.mark.parametrize(
    ("state", "names", "words"),
    [
        ({"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)}, None, "holds 2 tensors"),
        ({"weight": torch.ones(2, 2), "bias": torch.ones(3)}, None, r"bias \(3,\)"),
        ({"weight": torch.ones(2, 2, 2)}, None, r"weight \(2, 2, 2\)"),
        ({"weight": torch.ones(1, 2)}, None, "1 class"),
        ({"weight": torch.full((2, 2), torch.nan)}, None, "not a number"),
        ({"weight": torch.ones(2, 2)}, ["a", "b", "c"], "holds 3 names"),
        ({"weight": torch.ones(2, 2)}, {"x": "a"}, "no list of names"),
    ],
)
def test_what_is_no_head_is_refused(tmp_path, state, names, words):
    save_file(state, tmp_path / "h.safetensors")
    if names is not None:
        (tmp_path / "h.json").write_text(json.dumps(names))
    with pytest.raises(SeaAnchorError, match=words):
        read_head(tmp_path / "h.safetensors")


def test_a_missing_file_names_the_choices(tmp_path):
    with pytest.raises(SeaAnchorError, match="text, classifier, probe"):
        read_head(tmp_path / "clasifier")


def test_another_number_of_dimensions_is_refused():
    named = NamedHead(Head(torch.ones(2, 8), unit=False))
    check_width(named, 8, "M", "the head")
    with pytest.raises(SeaAnchorError, match="8 dimensions and M gives 5"):
        check_width(named, 5, "M", "the head")
    with pytest.raises(SeaAnchorError, match="class token beside the mean of the patches"):
        check_width(named, 4, "M", "the head")


@pytest.mark.parametrize("length", [120, 128, 384, 640])
def test_no_length_of_a_header_makes_a_pickle_of_safetensors(tmp_path, length):
    """The first byte of a pickle, 128, is also that of headers of such lengths."""
    from safetensors.torch import save

    raw = save({"weight": torch.ones(2, 2)})
    header = raw[8 : 8 + int.from_bytes(raw[:8], "little")].rstrip().ljust(length)
    (tmp_path / "h.safetensors").write_bytes(length.to_bytes(8, "little") + header + raw[-16:])
    assert read_head(tmp_path / "h.safetensors").head.weight_CD.shape == (2, 2)


def test_one_flipped_bit_anywhere_in_a_head_of_ours_is_found(tmp_path):
    head = Head(torch.randn(2, 3), bias_C=torch.randn(2), unit=False, kind="probe")
    write_head(NamedHead(head, ("cat", "dog"), "mean"), tmp_path / "h.safetensors")
    whole = (tmp_path / "h.safetensors").read_bytes()
    bits = random.Random(0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bits.randrange(8)
        (tmp_path / "h.safetensors").write_bytes(damaged)
        with pytest.raises(SeaAnchorError):
            read_head(tmp_path / "h.safetensors")
