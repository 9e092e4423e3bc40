"""Classifiers come from the cache the second time, and never from that of another model, tokenizer or prompt."""

import copy
from contextlib import ExitStack
from dataclasses import replace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from seaanchor.encoders import heads as head_code
from seaanchor.encoders.fingerprint import image_side, tokenizer_identity
from seaanchor.encoders.heads import build_head, class_means, embed_texts
from seaanchor.encoders.load import load_model
from seaanchor.encoders.text import LOT, in_lots
from seaanchor.utils import disk_cache

NAMES = ("cat", "grand piano", "a very long name of a thing that hardly anybody has seen", "!!", "dog")
TEMPLATES = ("a photo of a {}.", "{}", "a drawing of the {}, which is large")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(disk_cache.VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many texts went through a tower, call by call."""
    calls, real = [], head_code._encode
    monkeypatch.setattr(
        head_code,
        "_encode",
        lambda model, texts, batch_size: calls.append(len(texts)) or real(model, texts, batch_size),
    )
    return calls


@pytest.fixture(params=["embedded", "vit-b-32-like", "custom-text", "hf"])
def model(request, architectures, hf_folder):
    torch.manual_seed(0)
    return {
        "embedded": lambda: load_model("seaanchor-tiny"),
        "vit-b-32-like": lambda: load_model("tiny-vit", "none"),
        "custom-text": lambda: load_model("tiny-custom", "none"),
        "hf": lambda: load_model(f"hf:{hf_folder}"),
    }[request.param]()


def theirs(model) -> torch.Tensor:
    """The classifier by open_clip's builder, or by transformers one text at a time."""
    tokenizer = model.export_config["tokenizer"]
    if model.family == "open_clip":
        import open_clip

        return open_clip.build_zero_shot_classifier(model.module, tokenizer, NAMES, TEMPLATES).T
    rows = []
    for name in NAMES:
        tokens = [
            tokenizer(t.replace("{}", name), padding="max_length", max_length=24, truncation=True, return_tensors="pt")
            for t in TEMPLATES
        ]
        pooled = [model.module.text_model(**each).pooler_output for each in tokens]
        rows.append(F.normalize(F.normalize(model.module.text_projection(torch.cat(pooled)), dim=-1).mean(0), dim=0))
    return torch.stack(rows)


def test_equal_to_the_librarys_own_at_first_and_from_the_cache(model, encoded, monkeypatch):
    monkeypatch.setitem(LOT, "cpu", 40)  # several lots
    first, second = build_head(model, NAMES, TEMPLATES), build_head(model, NAMES, TEMPLATES)
    assert encoded == [15] and torch.equal(first.weight_CD, second.weight_CD)
    assert (first.weight_CD - theirs(model)).abs().max() <= 2.5e-6
    assert torch.equal(embed_texts(model, NAMES), embed_texts(model, NAMES)) and encoded == [15, 5]
    torch.testing.assert_close(class_means(model, NAMES, ("{}",)), embed_texts(model, NAMES))


def test_whatever_the_texts_depend_on_counts(model, encoded):
    build_head(model, NAMES, TEMPLATES)
    build_head(model, NAMES[::-1], TEMPLATES)
    build_head(model, NAMES, TEMPLATES[:2])
    assert len(encoded) == 3
    with torch.no_grad():
        next(p for name, p in model.module.named_parameters() if "token_embedding" in name).data[-1] += (
            1e-3  # the end token
        )
    moved = build_head(model, NAMES, TEMPLATES)
    assert len(encoded) == 4
    monkey = replace(model, text_identity=None)  # a tower that does not tell what it depends on is asked each time
    build_head(monkey, NAMES, TEMPLATES), build_head(monkey, NAMES, TEMPLATES)
    assert len(encoded) == 6
    with torch.no_grad():
        next(
            model.encoder.tower.parameters()
        ).data += 1  # the image side does not count: a run and its reference share classifiers
    assert torch.equal(build_head(model, NAMES, TEMPLATES).weight_CD, moved.weight_CD) and len(encoded) == 6


ARITHMETIC = {
    "matmul precision": lambda stack: torch.set_float32_matmul_precision("medium"),
    "autocast": lambda stack: stack.enter_context(torch.autocast("cpu", torch.bfloat16)),
    "oneDNN's mode": lambda stack: stack.enter_context(
        mock.patch.dict("os.environ", ONEDNN_DEFAULT_FPMATH_MODE="BF16")
    ),
}


@pytest.mark.parametrize("change", ARITHMETIC.values(), ids=ARITHMETIC)
def test_texts_and_images_of_another_arithmetic_are_computed_anew(architectures, encoded, change):
    """What the cache gives back under each setting is what the tower gives under it."""
    model = load_model("tiny-vit", "none")
    image = str(image_side(model.encoder, "open_clip"))
    plain = embed_texts(model, NAMES)
    try:
        with ExitStack() as stack:
            change(stack)
            found = embed_texts(model, NAMES)
            assert encoded == [5, 5] and str(image_side(model.encoder, "open_clip")) != image
            assert torch.equal(found, F.normalize(head_code._encode(model, NAMES, 64), dim=-1))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(embed_texts(model, NAMES), plain) and encoded == [5, 5, 5]  # the third is this test's own
    assert str(image_side(model.encoder, "open_clip")) == image


def test_arithmetic_that_only_reorders_sums_is_no_other(architectures, encoded):
    model, threads = load_model("tiny-vit", "none"), torch.get_num_threads()
    plain = embed_texts(model, NAMES)
    try:
        torch.set_num_threads(threads + 1)
        torch.use_deterministic_algorithms(True)
        assert torch.equal(embed_texts(model, NAMES), plain) and encoded == [5]
        assert (F.normalize(head_code._encode(model, NAMES, 64), dim=-1) - plain).abs().max() < 1e-6
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)


def test_tokenizers_are_told_apart(architectures, cut_vocabulary_folder, hf_folder):
    import open_clip
    from transformers import AutoTokenizer

    whole = open_clip.get_tokenizer("tiny-vit")
    longer = copy.copy(whole)
    longer.context_length = 21
    cleaned = copy.copy(whole)
    cleaned.clean_fn = str.strip
    cut = load_model(str(cut_vocabulary_folder)).export_config["tokenizer"]
    theirs = AutoTokenizer.from_pretrained(hf_folder)
    found = [tokenizer_identity(each) for each in (whole, longer, cleaned, cut, theirs)]
    assert len({str(each) for each in found}) == 5 and None not in found
    assert found[0] == tokenizer_identity(open_clip.get_tokenizer("tiny-vit"))
    assert tokenizer_identity(object()) is None


def test_the_image_side(architectures):
    torch.manual_seed(0)
    model, other = (load_model(name, "none") for name in ("tiny-vit", "tiny-quickgelu"))
    other.encoder.load_state_dict(model.encoder.state_dict())  # the same weights and another activation
    names = [image_side(model.encoder, "open_clip"), image_side(other.encoder, "open_clip")]
    with torch.no_grad():
        model.encoder.mean += 1e-3
    names.append(image_side(model.encoder, "open_clip"))
    assert len({str(name) for name in names}) == 3


def test_cut_texts_are_told_from_the_cache_too(architectures, capsys):
    from seaanchor.utils.log import warn_once

    model = load_model("tiny-vit", "none")
    for _ in range(2):
        warn_once.cache_clear()
        build_head(model, ("cat", " ".join(["dog"] * 40)))
        assert "1 of 2 texts are longer" in capsys.readouterr().err


def test_lots_hold_texts_of_like_length(monkeypatch):
    monkeypatch.setitem(LOT, "cpu", 12)
    length_N, lots = torch.tensor([3, 9, 2, 3, 20, 2, 3]), []

    def encode(lot):
        lots.append(length_N[lot].tolist())
        return lot[:, None].float()

    assert in_lots(length_N, encode).flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert lots == [[2, 2, 3, 3], [3], [9], [20]]
