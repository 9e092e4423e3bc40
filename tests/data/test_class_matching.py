"""Classes found by name among others: every label goes to the class that is called so, or nothing goes anywhere."""

from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from seaanchor.data.class_matching import as_answers, match_answers, relabelled
from seaanchor.data.names import imagenet_names
from seaanchor.data.types import ClassifiedImages, PreferenceImages, TypographicImages
from seaanchor.errors import SeaAnchorError

WORDNET = tuple(ImageNetInfo().label_descriptions())


def match(names, answers, count=None):
    return match_answers(names, answers, len(answers) if count is None else count, "DATA", "the head")


@pytest.mark.parametrize("answers", [tuple(imagenet_names()), WORDNET, tuple(ImageNetInfo().label_names())])
@pytest.mark.parametrize(
    ("name", "number"),
    [("tench", 0), ("Tinca_tinca", 0), ("n01440764", 0), ("great white shark", 2), ("airliner", 404)],
)
def test_imagenet_classes_go_by_all_their_names(answers, name, number):
    assert match([name, "Goldfish"], answers) == [number, 1]


def test_every_class_of_imagenet_is_found_by_its_wordnet_number_and_by_openclips_name():
    for names in (ImageNetInfo().label_names(), imagenet_names()):
        assert match(names, WORDNET) == list(range(1000))


def test_order_does_not_matter_and_a_part_will_do(caplog):
    caplog.set_level("INFO")
    assert match(["Zebra", "red_fox"], ("apple", "red fox", "zebra")) == [2, 1]
    assert "2 classes were found by name among the 3" in caplog.text


@pytest.mark.parametrize(
    ("names", "answers", "words"),
    [
        (["airplane", "dog"], ("airliner", "dog"), "1 of the 2 classes of DATA .* airplane"),
        (["crane", "tench"], WORDNET, "could be several .*number 134.*number 517"),
        (["dog", "hound"], ("dog, hound", "cat"), "are one class of the head"),
        (["1", "2", "3"], ("0", "1", "2"), "are not among"),
        (["0", "1"], ("a", "b", "c"), "2 classes and the head 3"),
    ],
)
def test_what_cannot_be_matched_is_refused(names, answers, words):
    with pytest.raises(SeaAnchorError, match=words):
        match(names, answers)


def test_without_names_the_order_of_equally_many_is_told(caplog):
    caplog.set_level("INFO")
    assert match(["0", "1", "2"], ("x", "y", "z")) == [0, 1, 2]
    assert match(["some", "other"], None, 2) == [0, 1]
    assert caplog.text.count("in their order") == 2
    with pytest.raises(SeaAnchorError, match="has no names"):
        match(["some", "other"], None, 3)


def test_labels_words_and_pairs_move_together():
    root, paths = Path("x"), (Path("a"), Path("b"))
    classified = as_answers(ClassifiedImages(root, paths, (1, 0), ("cat", "dog")), ("dog", "emu", "cat"), 3, "D", "h")
    assert (classified.labels, classified.class_names) == ((0, 2), ("dog", "emu", "cat"))
    drawn = relabelled(TypographicImages(root, paths, (0, 1), (1, 0), ("cat", "dog")), [2, 0], ("dog", "emu", "cat"))
    assert (drawn.labels, drawn.words) == ((2, 0), (0, 2))
    pairs = relabelled(PreferenceImages(root, paths, ("cat", "dog"), ((0, 1), (1, -1))), [2, 0], ("dog", "emu", "cat"))
    assert pairs.pairs == ((2, 0), (0, -1))
