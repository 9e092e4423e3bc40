"""The segmentation head: fitted as a logistic regression of pixels, enlarged bilinearly, stored and checked."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

import seaanchor.encoders.segmentation_head as module
from seaanchor.data.masks import open_segmented, read_mask
from seaanchor.encoders.encoder import Encoder
from seaanchor.encoders.own_module import from_encoder
from seaanchor.encoders.segmentation_head import (
    SegmentationHead,
    check_dense,
    check_fits,
    fit_segmentation_head,
    read_segmentation_head,
    write_segmentation_head,
)
from seaanchor.errors import SeaAnchorError


class Patches(nn.Module):
    """Patch tokens by one convolution."""

    def __init__(self, side, width=3):
        super().__init__()
        self.embed = nn.Conv2d(3, width, side, side)

    def forward(self, pixels):
        return self.embed(pixels).flatten(2).transpose(1, 2)


def model_of(side=1, width=3, image_size=8):
    torch.manual_seed(0)
    return from_encoder(Encoder(Patches(side, width), image_size, tokens="patches"), "patches")


@pytest.fixture
def scenes(tmp_path):
    """Eight images of 8 pixels whose classes follow their colours, with noise; the first rows have none."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for i in range(8):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        mask = (pixels + rng.normal(0, 40, pixels.shape)).argmax(-1).astype(np.uint8)
        mask[:2] = 255
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    (tmp_path / "classnames.txt").write_text("red\ngreen\nblue\n")
    return open_segmented(tmp_path)


def tokens_and_masks(model, images):
    stack = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in images.paths])
    with torch.no_grad():
        return model.encoder(stack / 255), torch.stack([read_mask(images, i, 8) for i in range(len(images.paths))])


def test_one_token_a_pixel_is_a_logistic_regression(scenes):
    model = model_of()
    head = fit_segmentation_head(model, scenes)
    tokens, mask = tokens_and_masks(model, scenes)
    logits = head.logits(tokens, (8, 8), 8)
    flat, label = tokens.flatten(0, 1), mask.flatten()
    known = label != 255
    theirs = LogisticRegression(C=1e6, max_iter=2000).fit(flat[known].numpy(), label[known].numpy())
    loss = F.cross_entropy(logits, mask, ignore_index=255).item()
    best = -np.log(theirs.predict_proba(flat[known].numpy())[np.arange(int(known.sum())), label[known].numpy()]).mean()
    assert abs(loss - best) < 1e-4
    answers = logits.argmax(1).flatten()[known].numpy()
    assert (answers == theirs.predict(flat[known].numpy())).mean() > 0.97
    assert best < 0.9 * np.log(3)  # there is something to learn


def test_logits_are_enlarged_bilinearly():
    """From 2 x 2 cells to 4 x 4 pixels, whose centres lie a quarter and three quarters between those of the cells."""
    head = SegmentationHead(torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 5.0]), ("a", "b"))
    found = head.logits(torch.tensor([[[0.0], [4.0], [8.0], [12.0]]]), (2, 2), 4)
    assert found[0, 0].tolist() == [[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]]
    assert (found[0, 1] == 5).all()


def test_the_same_head_whether_tokens_are_held_or_computed_again(scenes, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 60)
    model = model_of(side=2, width=5)
    held = fit_segmentation_head(model, scenes, batch_size=3)
    monkeypatch.setattr(module, "HELD", 0)
    again = fit_segmentation_head(model, scenes, batch_size=8)
    assert torch.allclose(held.weight_CD, again.weight_CD, atol=1e-4)
    assert fit_segmentation_head(model, scenes, seed=1).digest != again.digest


def test_a_head_comes_back_from_its_file(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STEPS", 60)
    model = model_of()
    head = fit_segmentation_head(model, scenes)
    again = read_segmentation_head(write_segmentation_head(head, tmp_path / "head.safetensors"))
    assert again.digest == head.digest and again.class_names == ("red", "green", "blue") and again.tower
    assert SegmentationHead(head.weight_CD, head.bias_C, ("red", "green", "x")).digest != head.digest
    check_fits(again, model, ("red", "green", "blue"), "given")
    (tmp_path / "other").write_bytes(b"x")
    for file in (tmp_path / "other", tmp_path / "missing"):
        with pytest.raises(SeaAnchorError, match="no segmentation head"):
            read_segmentation_head(file)
    write_segmentation_head(SegmentationHead(head.weight_CD, head.bias_C, ("red",)), tmp_path / "few")
    with pytest.raises(SeaAnchorError, match="1 names"):
        read_segmentation_head(tmp_path / "few")
    broken = SegmentationHead(head.weight_CD * torch.nan, head.bias_C, head.class_names)
    with pytest.raises(SeaAnchorError, match="not finite"):
        read_segmentation_head(write_segmentation_head(broken, tmp_path / "nan"))


def test_what_does_not_fit_is_named():
    head = SegmentationHead(torch.zeros(2, 3), torch.zeros(2), ("cat", "dog"))
    with pytest.raises(SeaAnchorError, match="3 dimensions, and those of patches have 5"):
        check_fits(head, model_of(width=5), ("cat", "dog"), "given")
    with pytest.raises(SeaAnchorError, match=r"other classes than the images \(2 and 3"):
        check_fits(head, model_of(), ("cat", "dog", "cow"), "given")
    with pytest.raises(SeaAnchorError, match=r"2 and 2: dog"):
        check_fits(head, model_of(), ("cat", "horse"), "given")
    plain = from_encoder(Encoder(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), 2), "plain")
    with pytest.raises(SeaAnchorError, match=r"plain with one embedding an image\n.*patch tokens"):
        check_dense(plain)

    class Row(Patches):
        def forward(self, pixels):
            return super().forward(pixels)[:, :3]

    with pytest.raises(SeaAnchorError, match="in no known grid"):
        check_dense(from_encoder(Encoder(Row(2), 4, tokens="patches"), "row"))
