"""Words drawn on images: which word, where, how, and what is read back from file names."""

import random

import numpy as np
import pytest
import torch

from seaanchor.data.typographic import is_lettered, list_lettered, parse_name
from seaanchor.errors import SeaAnchorError
from seaanchor.lettering import COLOURS, break_lines, draw_word, font_files, lay_on, letter, scramble
from seaanchor.parts import Batch
from seaanchor.perturbations.attribute import AttributeSwap, partners
from seaanchor.perturbations.typographic import Typographic

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
    drawn = {kind: {letter("word", 64, random.Random(i), fonts=kind, sizes=SIZES).font for i in range(60)} for kind in ("train", "unseen")}
    assert not drawn["train"] & drawn["unseen"]
    assert drawn["unseen"] == {f.name for f in font_files("unseen")}


def test_a_drawing_depends_on_seed_image_and_variant_alone():
    attack = Typographic(NAMES, sizes=SIZES, variants=3)
    again = Typographic(NAMES, sizes=SIZES, variants=3)
    first, second = attack.draw(4, 1, 2, 64), again.draw(4, 1, 2, 64)
    assert first[0] == second[0] and np.array_equal(first[1].mask, second[1].mask)
    others = [attack.draw(4, 1, 1, 64), attack.draw(5, 1, 2, 64), Typographic(NAMES, sizes=SIZES, variants=3, seed=1).draw(4, 1, 2, 64)]
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
        assert left - 1 <= columns.min() and columns.max() <= right + 1 and top - 1 <= rows.min() and rows.max() <= bottom + 1
        assert right - left <= 64 + 1 and bottom - top <= 64 + 1


@pytest.mark.parametrize(("text", "lines"), [("one", 1), ("one two", 2), ("one two three", 2), ("one two three four", 3)])
def test_line_breaks(text, lines):
    assert len(break_lines(text).split("\n")) == lines and break_lines(text).split() == text.split()


def test_fill_and_stroke_differ_and_show_up_in_their_colours():
    for i in range(30):
        lettering = letter("zebra", 64, random.Random(i), fonts="train", sizes=SIZES)
        assert lettering.fill != lettering.stroke
        picture = lay_on(np.full((64, 64, 3), 127, np.uint8), lettering)
        solid = lettering.mask[0] == 255
        if solid.any():
            assert (picture[solid] == COLOURS[lettering.fill]).all()
        assert (picture[lettering.mask[1] == 0] == 127).all()


def test_scrambled_letters_cover_the_same_box_with_the_same_ink():
    for i in range(10):
        lettering = letter("zebra", 64, random.Random(i), fonts="train", sizes=SIZES)
        other = scramble(lettering, random.Random(1))
        assert other.mask.sum() == lettering.mask.sum() and (other.fill, other.stroke, other.box) == (lettering.fill, lettering.stroke, lettering.box)
        assert not np.array_equal(other.mask, lettering.mask)


def test_it_needs_labels_and_two_words():
    with pytest.raises(SeaAnchorError, match="without labels"):
        Typographic(NAMES)(Batch(torch.rand(1, 3, 8, 8), None, torch.arange(1)), None, torch.Generator())
    with pytest.raises(SeaAnchorError, match="at least two"):
        Typographic(("apple",))


def test_attribute_swap_changes_texts_not_pixels():
    texts = ("a man runs", "a woman runs", "a woman reads", "a man reads")
    partner = partners(texts, [t.replace("woman", "WOMAN").replace("man", "woman").replace("WOMAN", "man") for t in texts])
    assert partner == (1, 0, 3, 2)
    images = Batch(torch.rand(4, 3, 4, 4), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    plain, flipped = (AttributeSwap(partner, flip)(images, None, torch.Generator()) for flip in (False, True))
    assert torch.equal(plain.pixels_BCHW, images.pixels_BCHW)
    assert plain.preference.chosen_B.tolist() == [0, 1, 2, 3] and plain.preference.rejected_B.tolist() == [1, 0, 3, 2]
    assert torch.equal(flipped.preference.chosen_B, plain.preference.rejected_B) and torch.equal(flipped.preference.rejected_B, plain.preference.chosen_B)
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
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(SeaAnchorError, match=r"other\.png"):
        list_lettered(tmp_path)
