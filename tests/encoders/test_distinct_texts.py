"""Texts that differ only behind what a model reads are refused as classes, and as the two sides of a preference."""

import pytest
import torch

from seaanchor.encoders.distinct_texts import check_classes_apart, check_pairs_apart
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError


@pytest.fixture(params=["open_clip", "hf"])
def model(request, architectures, hf_folder):
    torch.manual_seed(0)
    return load_model("tiny-vit", "none") if request.param == "open_clip" else load_model(f"hf:{hf_folder}")


def long(end: str) -> str:
    """More tokens than either model reads, and an end."""
    return " ".join(["a"] * 30 + [end])


def test_classes_that_are_cut_to_one(model):
    assert torch.equal(*model.encode_texts([long("x"), long("y")])), "to the model they are one"
    with pytest.raises(SeaAnchorError, match=rf"2 classes .* the {model.text_limit.tokens} tokens .* a x' = .* a y'"):
        build_head(model, ["cat", long("x"), long("y")])
    assert build_head(model, [long("x"), long("y"), "cat"], ["{}"], classes=False).weight_CD.shape[0] == 3


def test_one_prompt_that_tells_them_apart_is_enough(model):
    """At the end the names are cut off, at the front they are read."""
    names, behind = ["cat", "dog"], long("{}")
    with pytest.raises(SeaAnchorError, match="'cat' = 'dog'"):
        build_head(model, names, [behind])
    assert build_head(model, names, [behind, "{}"]).weight_CD.shape[0] == 2


def test_what_fits_and_what_differs_early_passes(model):
    check_classes_apart(model.text_limit, ["cat", "dog"], ["a {}."])
    check_classes_apart(model.text_limit, [f"cat {long('x')}", f"dog {long('x')}"], ["{} and {}"])
    check_classes_apart(
        model.text_limit, ["b" * 5, "c" * 5], ["{} " * 8]
    )  # a name that stands in its prompt eight times


def test_rows_of_preferences(model):
    texts = ["cat", long("x"), long("y")]
    check_pairs_apart(model.text_limit, texts, [(0, 1), (2, 0), (1, -1), (-1, 2)], "rows.jsonl")
    with pytest.raises(SeaAnchorError, match=r"rows\.jsonl: in 2 of 3 rows .* first in row 2"):
        check_pairs_apart(model.text_limit, texts, [(0, 1), (1, 2), (2, 1)], "rows.jsonl")
