"""The truncated text forward equals open_clip's own, and texts become a classifier as the CLIP paper says."""

import pytest
import torch
import torch.nn.functional as F

from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.encoders.text import encode_text, overlong, truncate
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.log import warn_once

TEXTS = [
    "a photo of a cat.",
    "!!",
    "wow !!! a dog!!",
    "a drawing of two very large brown dogs that run along the whole of the beach until they are tired",
]


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-quickgelu", "tiny-custom", "tiny-noncausal", "tiny-resnet"])
def test_truncated_forward_equals_the_full_one(architectures, name):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model(name).eval()
    tokens = open_clip.get_tokenizer(name)(TEXTS[:3])
    with torch.no_grad():
        assert (encode_text(model, tokens) - model.encode_text(tokens)).abs().max() < 1e-5
        whole = open_clip.get_tokenizer(name)(TEXTS)
        assert (encode_text(model, whole) - model.encode_text(whole)).abs().max() < 1e-5


def test_truncation_saves_work_where_it_is_exact_and_only_there(architectures):
    import open_clip

    lengths = {}
    for name in ("tiny-vit", "tiny-custom", "tiny-noncausal"):
        model = open_clip.create_model(name).eval()
        tower = model if hasattr(model, "transformer") else model.text
        hook = tower.transformer.register_forward_pre_hook(
            lambda module, args, name=name: lengths.update({name: args[0].shape[1]})
        )
        with torch.no_grad():
            encode_text(model, open_clip.get_tokenizer(name)(["a cat"]))
        hook.remove()
    assert lengths["tiny-vit"] == lengths["tiny-custom"] == 4  # start, a, cat, end
    assert lengths["tiny-noncausal"] == 20  # every token sees the padding


def test_an_exclamation_mark_is_no_padding():
    """With a cut vocabulary `!!!` becomes the tokens 0 0 256, and 0 also pads."""
    end = 513
    tokens = torch.tensor([[512, 0, 0, 256, end, 0, 0, 0], [512, 320, end, 0, 0, 0, 0, 0]])
    assert truncate(tokens).tolist() == [[512, 0, 0, 256, end], [512, 320, end, 0, 0]]


def test_exclamation_marks_with_a_cut_vocabulary(cut_vocabulary_folder):
    import open_clip

    loaded = load_model(str(cut_vocabulary_folder))
    theirs = open_clip.create_model(f"local-dir:{cut_vocabulary_folder}").eval()
    tokenizer = loaded.export_config["tokenizer"]
    texts = ["x!!y!!z!!", "a!"]
    assert (tokenizer(texts) == 0).sum() > 0
    with torch.no_grad():
        assert (loaded.encode_texts(texts) - theirs.encode_text(tokenizer(texts))).abs().max() < 1e-5


@pytest.fixture
def hf_model(hf_folder):
    return load_model(f"hf:{hf_folder}")


@pytest.fixture
def open_clip_model(architectures):
    torch.manual_seed(0)
    return load_model("tiny-vit", "none")


@pytest.mark.parametrize(("fixture", "limit"), [("open_clip_model", 20), ("hf_model", 24)])
def test_a_text_is_cut_as_its_tokenizer_cuts_it(request, fixture, limit):
    """The first limit - 2 tokens are read between start and end token, and the rest changes nothing."""
    model = request.getfixturevalue(fixture)
    assert model.text_limit.tokens == limit
    fits, over, further = (" ".join(["a"] * count) for count in (limit - 2, limit - 1, limit + 9))
    other = f"{fits[:-1]}b"
    assert overlong([fits, over, "a", further], model.text_limit) == [1, 3]
    embedding = model.encode_texts([fits, over, further, other])
    torch.testing.assert_close(embedding[1:3], embedding[:1].expand(2, -1), rtol=1e-5, atol=1e-6)
    assert (embedding[3] - embedding[0]).abs().max() > 1e-4


@pytest.mark.parametrize("fixture", ["open_clip_model", "hf_model"])
def test_cut_texts_are_told_once(request, fixture, capsys):
    model = request.getfixturevalue(fixture)
    warn_once.cache_clear()
    names = ("cat", " ".join(["dog"] * 40), " ".join(["cow"] * 40))
    for _ in range(2):  # as policy and reference do
        build_head(model, names, ("a {}.", "{}"), batch_size=2)
    errors = capsys.readouterr().err
    assert errors.count("warning") == 1
    assert (
        f"4 of 6 texts are longer than the {model.text_limit.tokens} tokens" in errors and "First: 'a dog dog" in errors
    )
    build_head(model, ("cat", "dog"))
    assert capsys.readouterr().err == ""


def test_short_texts_are_not_counted_and_many_bytes_may_be_few_tokens(open_clip_model):
    from dataclasses import replace

    counted = []
    limit = replace(
        open_clip_model.text_limit, count=lambda text: counted.append(text) or open_clip_model.text_limit.count(text)
    )
    assert overlong(["a photo of a cat", "international conversations everywhere"], limit) == []
    assert counted == ["international conversations everywhere"]


def test_head_is_the_normalised_mean_of_unit_embeddings(architectures):
    torch.manual_seed(0)
    model = load_model("tiny-vit", "none")
    templates, names = ("a photo of a {}.", "{}", "a drawing of a {}."), ("cat", "grand piano")
    head = build_head(model, names, templates, batch_size=2)
    assert head.logit_scale == pytest.approx(model.logit_scale)
    for row, name in zip(head.weight_CD, names, strict=True):
        units = [F.normalize(model.encode_texts([t.replace("{}", name)])[0], dim=0) for t in templates]
        mean = sum(units) / 3
        torch.testing.assert_close(row, mean / mean.norm(), rtol=1e-4, atol=1e-5)
    embedding = torch.randn(3, 24)
    cosine = F.cosine_similarity(embedding[:, None], head.weight_CD[None], dim=-1)
    torch.testing.assert_close(head(embedding), model.logit_scale * cosine, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("names", "templates", "found"),
    [
        (("cat",), ("{}",), "a class list of 1"),
        ((), ("{}",), "a class list of 0"),
        (("cat", "dog", "cat"), ("{}",), "twice: cat"),
        (("cat", "dog", "Cat "), ("{}",), "twice: Cat  = cat"),
        (("cat", "dog"), ("{}", "a photo"), "has no {}"),
        (("cat", "dog"), (), "no template"),
    ],
)
def test_class_lists_and_templates_that_make_no_classifier(architectures, names, templates, found):
    model = load_model("tiny-vit", "none")
    with pytest.raises(SeaAnchorError, match="expected") as caught:
        build_head(model, names, templates)
    assert found in str(caught.value)


def test_braces_in_names_and_templates_are_taken_as_they_are(architectures):
    model = load_model("tiny-vit", "none")
    head = build_head(model, ("a {b}", "c"), ("{} {0} {",))
    expected = F.normalize(model.encode_texts(["a {b} {0} {"])[0], dim=0)
    torch.testing.assert_close(head.weight_CD[0], expected, rtol=1e-4, atol=1e-5)


def test_a_tower_without_text_has_no_head(monkeypatch):
    model = load_model("timm:resnet10t", "none")
    with pytest.raises(SeaAnchorError, match="no text tower"):
        build_head(model, ("cat", "dog"))
