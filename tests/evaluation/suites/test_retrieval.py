"""Recall against rankings written out, and captions read from JSON lines."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from seaanchor.data.loader import ImageDataset, SkipLog, batches, subset
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.captions import read_captions
from seaanchor.evaluation.suites.retrieval import evaluate_retrieval


def by_sorting(queries, candidates, own, other, k):
    """Share of queries with a positive among the k best, one query at a time; those without any are left out."""
    hits = []
    for query, group in zip(queries, own, strict=True):
        if group in other:
            order = np.argsort(-(candidates @ query))[:k]
            hits.append(any(other[i] == group for i in order))
    return np.mean(hits), len(hits)


def test_by_hand():
    """Three images, four texts, two of them of the first image. Scores of the images (rows): the first image finds its
    second text second; the second finds its own first; the third finds its own last."""
    scores = torch.tensor([[0.1, 0.7, 0.9, 0.2], [0.3, 0.2, 0.8, 0.1], [0.9, 0.5, 0.6, 0.4]])
    image_group, text_group = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1, 2])
    result = evaluate_retrieval(scores, torch.eye(4), image_group, text_group, depths=(1, 2, 4))
    assert [result.image_to_text[f"recall@{k}"].accuracy for k in (1, 2, 4)] == pytest.approx([1 / 3, 2 / 3, 1])
    # texts: columns rank the images 2 1 0, 0 2 1, 0 1 2 and 2 0 1; their own are 0, 0, 1 and 2
    assert [result.text_to_image[f"recall@{k}"].accuracy for k in (1, 2, 4)] == pytest.approx([2 / 4, 3 / 4, 1])
    assert result.image_to_text["recall@1"].n == 3 and result.text_to_image["recall@1"].n == 4


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_against_sorting_in_any_chunk(chunk):
    rng = np.random.default_rng(0)
    images, texts = (
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(40, 6)), rng.normal(size=(90, 6)))
    )
    own, other = rng.integers(30, size=40), rng.integers(30, size=90)
    tensors = (torch.from_numpy(x) for x in (images, texts, own, other))
    result = evaluate_retrieval(*tensors, chunk=chunk)
    for k in (1, 5, 10):
        for name, share in {
            "text": by_sorting(images, texts, own, other, k),
            "image": by_sorting(texts, images, other, own, k),
        }.items():
            row = {"text": result.image_to_text, "image": result.text_to_image}[name][f"recall@{k}"]
            assert (row.accuracy, row.n) == (pytest.approx(share[0]), share[1])


def test_a_collapsed_encoder_is_not_rewarded():
    same = F.normalize(torch.ones(100, 4), dim=-1)
    result = evaluate_retrieval(same, same, torch.arange(100), torch.arange(100))
    assert result.image_to_text["recall@1"].accuracy < 0.05


def folder_with(tmp_path, name, rows):
    for image in ("a.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / image)
    (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return tmp_path


def test_captions_of_either_convention(tmp_path):
    rows = [
        {"image": "b.png", "captions": ["two", "deux"]},
        {"file": "a.png", "captions": ["one"]},
        {"image": "b.png", "text": "zwei"},
    ]
    read = read_captions(folder_with(tmp_path, "captions.jsonl", rows))
    assert [path.name for path in read.images.paths] == ["b.png", "a.png"]
    assert read.texts == ("two", "deux", "one", "zwei") and read.image_of_text == (0, 0, 1, 0)
    (tmp_path / "captions.jsonl").unlink()
    other = read_captions(folder_with(tmp_path, "metadata.jsonl", [{"file_name": "a.png", "text": "one"}]))
    assert other.texts == ("one",) and read_captions(tmp_path / "metadata.jsonl") == other


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": "a.png"}, "captions None"),
        ({"captions": ["x"]}, "image None"),
        ({"image": "a.png", "captions": []}, "captions"),
        ({"image": "a.png", "captions": ["x", " "]}, "a.png"),
        ({"image": "c.png", "text": "x"}, "'c.png' is missing"),
        ({"image": "é" * 200 + ".png", "text": "x"}, "name too long"),
        ({"image": "../a.png", "text": "x"}, "leads out of"),
        ([1], "line 1"),
        ({"image": "a.jpg", "caption": "\ud83d"}, "line 1"),
    ],
)
def test_rows_that_are_none(tmp_path, row, message):
    with pytest.raises(SeaAnchorError, match=message):
        read_captions(folder_with(tmp_path, "captions.jsonl", [row]))


def test_no_captions(tmp_path):
    with pytest.raises(SeaAnchorError, match=r"captions\.jsonl is missing"):
        read_captions(tmp_path)
    (tmp_path / "captions.jsonl").write_text("\n")
    with pytest.raises(SeaAnchorError, match="holds no caption"):
        read_captions(tmp_path)


def test_class_prompts_of_the_embedded_model():
    """One text a class: text retrieval at 1 is zero-shot accuracy."""
    model, images = load_model("seaanchor-tiny"), subset(open_images("photos-mini/test"), 200, 0)
    batch = next(batches(ImageDataset(images, 64), 200, workers=0, order=None, skip_log=SkipLog(images)))
    head = build_head(model, images.class_names)
    with torch.no_grad():
        image_ND = F.normalize(model.encoder(batch.pixels_BCHW), dim=-1)
    result = evaluate_retrieval(image_ND, head.weight_CD, batch.label_B, torch.arange(40))
    right = (head(image_ND).argmax(-1) == batch.label_B).double().mean().item()
    assert result.image_to_text["recall@1"].accuracy == pytest.approx(right) and right > 0.3
    assert result.text_to_image["recall@10"].accuracy >= result.text_to_image["recall@1"].accuracy > 0.3
