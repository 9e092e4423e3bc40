"""A word drawn on an image at hand: the drawing of preference training, on whatever kind of image."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from seaanchor.attacks import typographic
from seaanchor.attacks.drawing import COLOURS, random_drawing
from seaanchor.attacks.fonts import font_files
from seaanchor.attacks.word_on_image import SIZES
from seaanchor.errors import SeaAnchorError
from seaanchor.perturbations.typographic import Typographic


def tensor(count: int = 3, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def picture(height: int = 64, width: int = 64) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_it_is_the_drawing_of_training():
    images = tensor()
    drawings = [
        random_drawing("iPod", 64, random.Random(f"7 {i}"), fonts="train", sizes=SIZES) for i in range(len(images))
    ]
    assert torch.equal(typographic(images, "iPod", seed=7), Typographic.overlay(images, drawings))


def test_every_kind_of_image_gets_the_same_word():
    plain = picture()
    chw = torch.from_numpy(np.asarray(plain).copy()).permute(2, 0, 1)
    expected = np.asarray(typographic(plain, "iPod", seed=1))
    assert (expected != np.asarray(plain)).any()
    for image in (chw, chw / 255, chw.double() / 255, chw[None], (chw / 255)[None]):
        drawn = typographic(image, "iPod", seed=1)
        assert drawn.shape == image.shape and drawn.dtype == image.dtype and drawn.device == image.device
        numbers = drawn if drawn.dtype == torch.uint8 else (drawn * 255).round().to(torch.uint8)
        assert np.array_equal(numbers.reshape(3, 64, 64).permute(1, 2, 0).numpy(), expected)


def test_images_of_low_precision_keep_their_type():
    drawn = typographic(tensor().to(torch.bfloat16), "iPod")
    assert drawn.dtype == torch.bfloat16 and drawn.min() >= 0 and drawn.max() <= 1


def test_the_seed_decides_and_the_neighbours_do_not():
    images = tensor()
    first, again, other = (typographic(images, "iPod", seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(typographic(images[0], "iPod"), first[0])
    assert torch.equal(typographic(images[:2], "iPod"), first[:2])
    changed = lambda i: (first[i] != (images[i] * 255).round() / 255).any(0)  # noqa: E731
    assert not torch.equal(changed(0), changed(1)), "each image of a batch gets its own drawing"


@pytest.mark.parametrize(("height", "width"), [(40, 300), (300, 40), (8, 200), (481, 322)])
def test_images_of_any_size_and_where_the_word_stands(height, width):
    image = picture(height, width)
    drawn, (left, top, right, bottom) = typographic(image, "ab", seed=3, return_box=True)
    assert isinstance(drawn, Image.Image) and drawn.size == (width, height) and drawn.mode == "RGB"
    rows, columns = np.nonzero((np.asarray(drawn) != np.asarray(image)).any(-1))
    assert left - 1 <= columns.min() and columns.max() <= right + 1
    assert top - 1 <= rows.min() and rows.max() <= bottom + 1
    assert left >= -1 and top >= -1 and right <= width + 1 and bottom <= height + 1


def test_boxes_of_tensors():
    images = tensor()
    one, box = typographic(images[0], "ab", return_box=True)
    many, boxes = typographic(images, "ab", return_box=True)
    assert boxes[0] == box and len(boxes) == 3 and torch.equal(many[0], one)


def test_one_word_for_each_image():
    images = tensor()
    mixed = typographic(images, ["ab", "cd", "ab"])
    alike = typographic(images, "ab")
    assert torch.equal(mixed[0], alike[0]) and torch.equal(mixed[2], alike[2]) and not torch.equal(mixed[1], alike[1])


def test_grey_and_transparent_pictures_become_rgb():
    for mode in ("L", "RGBA", "P"):
        assert typographic(picture().convert(mode), "ab").mode == "RGB"


def test_size_font_and_colours_as_asked_for():
    small, large = (
        (lambda box: box[3] - box[1])(typographic(picture(200, 200), "ab", size=size, return_box=True)[1])
        for size in (0.1, 0.5)
    )
    assert large > 3 * small
    font = font_files("unseen")[0]
    by_file, by_name = (np.asarray(typographic(picture(), "ab", font=f)) for f in (font, str(font)))
    assert np.array_equal(by_file, by_name) and not np.array_equal(by_file, np.asarray(typographic(picture(), "ab")))
    for seed in range(12):
        drawn = np.asarray(typographic(picture(), "ab", seed=seed, size=0.6, fill="red"))
        assert (drawn == COLOURS["red"]).all(-1).sum() > 10
        edged = typographic(picture(), "ab", seed=seed, size=0.6, stroke="red", return_box=False)
        assert (np.asarray(edged) == COLOURS["red"]).all(-1).any()
    both = np.asarray(typographic(Image.new("RGB", (64, 64), (9, 9, 9)), "ab", size=0.6, fill="cyan", stroke="black"))
    colours = {tuple(int(v) for v in c) for c in both.reshape(-1, 3)}
    assert {COLOURS["cyan"], COLOURS["black"], (9, 9, 9)} <= colours


def test_no_images_are_no_error():
    assert typographic(torch.zeros(0, 3, 32, 32), "ab").shape == (0, 3, 32, 32)


BAD = {
    "empty word": (lambda: typographic(picture(), "  "), "nothing to draw"),
    "empty word, own font": (lambda: typographic(picture(), "", font=font_files("train")[0]), "nothing to draw"),
    "characters": (lambda: typographic(picture(), "中国"), "CJK"),
    "characters of a font": (lambda: typographic(picture(), "中国", font=font_files("train")[0]), "has no '中'"),
    "too small": (lambda: typographic(picture(7, 200), "ab"), "200 x 7 pixels"),
    "too small for the word": (lambda: typographic(picture(16, 16), "x" * 60), "does not fit an image of 16 x 16"),
    "two dimensions": (lambda: typographic(torch.rand(8, 8), "ab"), r"shape \(8, 8\)"),
    "channels last": (lambda: typographic(torch.rand(64, 64, 3), "ab"), "put the three channels first"),
    "one channel": (lambda: typographic(torch.rand(1, 64, 64), "ab"), r"\(3, H, W\)"),
    "range": (lambda: typographic(255 * tensor(), "ab"), "normalisation"),
    "int32": (lambda: typographic(tensor().int(), "ab"), "torch.int32"),
    "array": (lambda: typographic(np.zeros((64, 64, 3), np.uint8), "ab"), "PIL image or a tensor"),
    "words": (lambda: typographic(tensor(), ["ab"]), "1 words of 3 images"),
    "words of one": (lambda: typographic(picture(), ["ab", "cd"]), "2 words for one image"),
    "size": (lambda: typographic(picture(), "ab", size=1.5), "glyph sizes"),
    "size of nothing": (lambda: typographic(picture(), "ab", size=0.0), "glyph sizes"),
    "font": (lambda: typographic(picture(), "ab", font="Comic"), "no font 'Comic'"),
    "no font": (lambda: typographic(picture(), "ab", font=__file__), "could not be read"),
    "colour": (lambda: typographic(picture(), "ab", fill="puce"), "the colour 'puce'"),
    "one colour": (lambda: typographic(picture(), "ab", fill="red", stroke="red"), "two different"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_drawn_is_named(case):
    call, found = BAD[case]
    with pytest.raises(SeaAnchorError, match=found):
        call()
