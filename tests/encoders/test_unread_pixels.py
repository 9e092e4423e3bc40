"""Rows and columns that the patches of a tower leave out: as many as the note says, and not one more."""

import re

import pytest
import torch
from torch import nn

from seaanchor.encoders.load import load_model
from seaanchor.encoders.unread_pixels import unread_pixels
from seaanchor.errors import SeaAnchorError, note


def changed(pixels_BCHW, rows):
    """Other pixels in these rows and columns."""
    other_BCHW, noise_BCHW = pixels_BCHW.clone(), torch.rand_like(pixels_BCHW)
    other_BCHW[:, :, rows], other_BCHW[..., rows] = noise_BCHW[:, :, rows], noise_BCHW[..., rows]
    return other_BCHW


@pytest.mark.parametrize(
    ("name", "side", "unread", "said"),
    [
        ("timm:vit_tiny_patch16_224", 65, 1, "last 1 row and 1 column out, .* --image-size 64 or 80$"),
        ("timm:vit_tiny_patch16_224", 63, 15, "last 15 rows and 15 columns out, .* --image-size 48 or 64$"),
        ("timm:pit_ti_224", 70, 6, "--image-size 64 or 72$"),  # patches of 16 that begin every 8 pixels
        ("timm:convnext_atto", 65, 1, "--image-size 64 or 68$"),
        ("tiny-vit", 41, 1, "--image-size 40 or 48$"),
        ("tiny-vit", 48, 0, ""),
        ("timm:vit_tiny_patch16_224", 64, 0, ""),
        ("timm:resnet10t", 65, 0, ""),  # pads, as the next
        ("timm:tf_efficientnet_lite0", 70, 0, ""),
    ],
)
def test_the_note_tells_what_is_left_out(architectures, caplog, name, side, unread, said):
    note.cache_clear()
    encoder = load_model(name, "none", side).encoder
    notes = [record.getMessage() for record in caplog.records if "patches begin" in record.getMessage()]
    assert len(notes) == (unread > 0) and all(re.search(said, line) for line in notes)
    pixels_BCHW = torch.rand(1, 3, side, side)
    with torch.no_grad():
        embedding_BD = encoder(pixels_BCHW)
        assert unread == 0 or torch.equal(encoder(changed(pixels_BCHW, slice(side - unread, side))), embedding_BD)
        assert not torch.equal(encoder(changed(pixels_BCHW, slice(side - unread - 1, side - unread))), embedding_BD)


def test_a_model_of_its_own_size_is_not_told_of(caplog):
    note.cache_clear()
    load_model("timm:vit_tiny_patch16_224", "none")
    assert not caplog.records


def test_what_the_library_refuses_is_refused():
    with pytest.raises(SeaAnchorError, match=r"Input height \(65\) should be divisible"):
        load_model("timm:test_vit", "none", 65)


def test_other_convolutions_are_not_guessed_at():
    class Padding(nn.Conv2d):
        pass

    assert unread_pixels(Padding(3, 4, 16, 16), 65) == unread_pixels(nn.Conv2d(3, 4, 3, padding="same"), 65) == 0
    assert unread_pixels(nn.Conv2d(3, 4, 3, 4, dilation=2), 65) == 0 and unread_pixels(nn.Conv2d(3, 4, 3, 4), 65) == 2
