"""Words drawn on images: which word, where, how, and what is read back from file names."""

import random

import numpy as np
import pytest
import torch

from seaanchor.attacks.drawing import (
    COLOURS,
    break_lines,
    check_drawable,
    draw_on,
    draw_word,
    lay_out,
    random_drawing,
    scramble,
)
from seaanchor.attacks.fonts import font_files, fonts_with, glyphs
from seaanchor.data.typographic.read import check_names, is_lettered, list_lettered, parse_name
from seaanchor.errors import SeaAnchorError
from seaanchor.perturbations.attribute import AttributeSwap, partners
from seaanchor.perturbations.typographic import Typographic
from seaanchor.types import Batch

NAMES = ("apple", "red fox", "zebra", "grand piano", "key", "lamp")
SIZES = (0.2, 0.4)


def batch(count=12, size=64):
    rng = torch.Generator().manual_seed(0)
    return Batch(torch.rand(count, 3, size, size, generator=rng), torch.arange(count) % len(NAMES), torch.arange(count))


def attacked(attack, seed=0):
    return attack(batch(), lambda p: (p.sum((1, 2, 3)), p), torch.Generator().manual_seed(seed))


def test_the_drawn_word_is_wrong_and_rejected_and_the_label_is_chosen():
    result = attacked(Typographic(NAMES, sizes=SIZES))
    assert torch.equal(result.preference.chosen_B, batch().label_B)
    assert (result.preference.rejected_B != batch().label_B).all()
    assert ((result.pixels_BCHW - batch().pixels_BCHW).abs().amax((1, 2, 3)) > 0.2).all()
    assert result.pixels_BCHW.min() >= 0 and result.pixels_BCHW.max() <= 1


@pytest.mark.parametrize(("words", "numbers"), [("even", {0, 2, 4}), ("odd", {1, 3, 5})])
def test_halves_share_no_word(words, numbers):
    attack = Typographic(NAMES, words, sizes=SIZES)
    assert set(attack.drawable) == numbers
    drawn = {attack.draw(i, 0, v, 64)[0] for i in range(20) for v in range(5)}
    assert drawn <= numbers and len(drawn) > 1


def test_fonts_of_the_splits_are_disjoint():
    drawn = {
        kind: {random_drawing("word", 64, random.Random(i), fonts=kind, sizes=SIZES).font for i in range(60)}
        for kind in ("train", "unseen")
    }
    assert not drawn["train"] & drawn["unseen"]
    assert drawn["unseen"] == {f.name for f in font_files("unseen")}


def test_a_drawing_depends_on_seed_image_and_variant_alone():
    attack = Typographic(NAMES, sizes=SIZES, variants=3)
    again = Typographic(NAMES, sizes=SIZES, variants=3)
    first, second = attack.draw(4, 1, 2, 64), again.draw(4, 1, 2, 64)
    assert first[0] == second[0] and np.array_equal(first[1].mask, second[1].mask)
    others = [
        attack.draw(4, 1, 1, 64),
        attack.draw(5, 1, 2, 64),
        Typographic(NAMES, sizes=SIZES, variants=3, seed=1).draw(4, 1, 2, 64),
    ]
    assert not all(np.array_equal(first[1].mask, other[1].mask) for other in others)


def test_with_variants_an_image_gets_no_other_drawing():
    attack = Typographic(NAMES, sizes=SIZES, variants=2)
    seen = {attacked(attack, seed).pixels_BCHW[0].sum().item() for seed in range(12)}
    assert len(seen) == 2
    assert len({attacked(Typographic(NAMES, sizes=SIZES), seed).pixels_BCHW[0].sum().item() for seed in range(6)}) == 6


def test_ink_stays_in_its_box_and_long_words_shrink_until_they_fit():
    for text in ("key", "grand piano", "a very long class name indeed"):
        mask, (left, top, right, bottom) = draw_word(text, font_files("train")[0], 40, 64, random.Random(0))
        rows, columns = np.nonzero(mask[1] > 128)
        assert len(rows) > 20
        assert (
            left - 1 <= columns.min()
            and columns.max() <= right + 1
            and top - 1 <= rows.min()
            and rows.max() <= bottom + 1
        )
        assert right - left <= 64 + 1 and bottom - top <= 64 + 1


@pytest.mark.parametrize(
    ("text", "lines"), [("one", 1), ("one two", 2), ("one two three", 2), ("one two three four", 3)]
)
def test_line_breaks(text, lines):
    assert len(break_lines(text).split("\n")) == lines and break_lines(text).split() == text.split()


def test_fill_and_stroke_differ_and_show_up_in_their_colours():
    for i in range(30):
        drawing = random_drawing("zebra", 64, random.Random(i), fonts="train", sizes=SIZES)
        assert drawing.fill != drawing.stroke
        picture = draw_on(np.full((64, 64, 3), 127, np.uint8), drawing)
        solid = drawing.mask[0] == 255
        if solid.any():
            assert (picture[solid] == COLOURS[drawing.fill]).all()
        assert (picture[drawing.mask[1] == 0] == 127).all()


def test_scrambled_letters_cover_the_same_box_with_the_same_ink():
    for i in range(10):
        drawing = random_drawing("zebra", 64, random.Random(i), fonts="train", sizes=SIZES)
        other = scramble(drawing, random.Random(1))
        assert other.mask.sum() == drawing.mask.sum() and (other.fill, other.stroke, other.box) == (
            drawing.fill,
            drawing.stroke,
            drawing.box,
        )
        assert not np.array_equal(other.mask, drawing.mask)


def test_it_needs_labels_and_two_words():
    with pytest.raises(SeaAnchorError, match="without labels"):
        Typographic(NAMES)(Batch(torch.rand(1, 3, 8, 8), None, torch.arange(1)), None, torch.Generator())
    with pytest.raises(SeaAnchorError, match="at least two"):
        Typographic(("apple",))


LONG = "pneumonoultramicroscopicsilicovolcanoconiosis"


@pytest.mark.parametrize("text", [LONG, f"a {LONG} b", f"{LONG} {LONG}"])
def test_a_word_wider_than_the_image_is_broken_inside_and_loses_no_random_drawing(text):
    for font in font_files("train"):
        lines, size = lay_out(text, font, 30, 64)
        assert size == 6 and "".join(lines.split()) == "".join(text.split())
        mask, (left, top, right, bottom) = draw_word(text, font, 30, 64, random.Random(1))
        assert left >= 0 and top >= 0 and right <= 64 and bottom <= 64
        ink = [draw_word(line, font, 6, 400, random.Random(1))[0][0].sum(dtype=float) for line in lines.split("\n")]
        assert mask[0].sum(dtype=float) == pytest.approx(sum(ink), rel=0.1)


def test_lines_are_filled_with_whole_words_where_they_fit():
    lines, _ = lay_out(" ".join(["seven"] * 12), font_files("train")[1], 30, 64)
    assert len(lines.split("\n")) > 3 and set(lines.split()) == {"seven"}


def test_a_line_as_wide_as_the_image_does_not_stick_out_when_it_is_centred():
    for font in font_files("train"):
        assert "".join(lay_out("fire salamander", font, 6, 32)[0].split()) == "firesalamander"


def test_what_fits_nowhere_is_an_error_with_word_font_and_size():
    font = font_files("train")[1]
    with pytest.raises(
        SeaAnchorError, match=rf"'x+\.\.\.' does not fit an image of 64 x 64 pixels, .*6 pixels of {font.name}"
    ):
        draw_word("x" * 500, font, 20, 64, random.Random(0))
    check_drawable(NAMES, "train", 32)
    with pytest.raises(SeaAnchorError, match="32 x 32"):
        check_drawable((*NAMES, "x" * 100), "train", 32)
    with pytest.raises(SeaAnchorError, match="does not fit"):
        Typographic(("apple", "x" * 100)).check_size(32)


def test_a_font_without_the_glyphs_gives_way_to_one_with_them():
    assert "e" in glyphs(font_files("train")[0]) and "中" not in glyphs(font_files("train")[0])
    able = fonts_with("жираф", "train")
    assert 0 < len(able) < len(font_files("train"))
    drawn = {random_drawing("жираф", 64, random.Random(i), fonts="train", sizes=SIZES).font for i in range(30)}
    assert drawn == {font.name for font in able}


def test_letters_and_accents_kept_apart_are_drawn_as_one():
    split, whole = (
        random_drawing(text, 64, random.Random(2), fonts="train", sizes=SIZES) for text in ("cafe\u0301", "café")
    )
    assert np.array_equal(split.mask, whole.mask)


@pytest.mark.parametrize(
    ("name", "found"), [("中国", "CJK UNIFIED IDEOGRAPH-4E2D"), ("cat 😀", "GRINNING FACE"), ("  ", "nothing to draw")]
)
def test_words_that_no_font_can_draw_are_named_before_anything_is_drawn(name, found):
    with pytest.raises(SeaAnchorError, match=found):
        Typographic(("apple", name))
    Typographic(("apple", name, "pear"), "even")  # a class that is never drawn may be called anything


def test_classes_of_one_name_are_refused():
    for names in (("apple", "pear", "apple"), ("apple", "pear", "Apple")):
        with pytest.raises(SeaAnchorError, match="twice"):
            Typographic(names)


@pytest.mark.parametrize(
    "sizes", [(0.2, 0.1), (-1.0, 0.1), (0.0, 0.1), (float("nan"), 0.1), (0.1, float("nan")), (0.1, 1.5)]
)
def test_sizes_and_variants_out_of_range_are_refused(sizes):
    with pytest.raises(SeaAnchorError, match="glyph sizes of"):
        Typographic(NAMES, sizes=sizes)
    with pytest.raises(SeaAnchorError, match="-1 variants"):
        Typographic(NAMES, variants=-1)
    Typographic(NAMES, sizes=(0.1, 0.1), variants=0)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("tv/monitor", "cat"), "'tv/monitor'"),
        (("a_text=b", "cat"), "'a_text=b'"),
        (("x" * 130, "y" * 130), "260 bytes"),
    ],
)
def test_names_that_no_file_name_can_hold(names, found):
    check_names(("x" * 110, "y" * 110, "red_fox", "label=2"))
    with pytest.raises(SeaAnchorError, match=found):
        check_names(names)


def test_attribute_swap_changes_texts_not_pixels():
    texts = ("a man runs", "a woman runs", "a woman reads", "a man reads")
    partner = partners(
        texts, [t.replace("woman", "WOMAN").replace("man", "woman").replace("WOMAN", "man") for t in texts]
    )
    assert partner == (1, 0, 3, 2)
    images = Batch(torch.rand(4, 3, 4, 4), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    plain, flipped = (AttributeSwap(partner, flip)(images, None, torch.Generator()) for flip in (False, True))
    assert torch.equal(plain.pixels_BCHW, images.pixels_BCHW)
    assert plain.preference.chosen_B.tolist() == [0, 1, 2, 3] and plain.preference.rejected_B.tolist() == [1, 0, 3, 2]
    assert torch.equal(flipped.preference.chosen_B, plain.preference.rejected_B) and torch.equal(
        flipped.preference.rejected_B, plain.preference.chosen_B
    )
    with pytest.raises(SeaAnchorError, match="no swapped partner"):
        AttributeSwap((1, 0, -1, -1))(images, None, torch.Generator())


def test_file_names_as_rta_100_keeps_them(tmp_path):
    from PIL import Image

    for name in ("label=mug_text=ipod.png", "label=red fox_text=mug_12.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert is_lettered(tmp_path)
    images = list_lettered(tmp_path)
    assert images.class_names == ("ipod", "mug", "red fox")
    assert images.pairs == ((1, 0), (2, 1)) and images.labels == (1, 2)
    assert parse_name("label=a_b_text=c_d") == ("a_b", "c_d")
    Image.new("RGB", (8, 8)).save(tmp_path / "label=Mug_text=Red fox.png")
    again = list_lettered(tmp_path)
    assert again.class_names == ("Mug", "Red fox", "ipod") and again.pairs == (
        (0, 1),
        (0, 2),
        (1, 0),
    )  # capitals make no new class
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(SeaAnchorError, match=r"other\.png"):
        list_lettered(tmp_path)


@pytest.mark.parametrize("words", ["all", "even", "odd"])
def test_the_true_class_is_never_drawn_and_every_wrong_one_is(words):
    attack, again = (Typographic(NAMES, words, sizes=SIZES, seed=3) for _ in range(2))
    for label in range(len(NAMES)):
        drawn = [attack.draw(index, label, 0, 64)[0] for index in range(60)]
        assert set(drawn) == set(attack.drawable) - {label}
        assert drawn == [again.draw(index, label, 0, 64)[0] for index in range(60)]
