"""What a user writes after --preprocess."""

import pytest

from seaanchor.data.preprocessing import Preprocessing
from seaanchor.encoders.input_settings import InputSettings, changed
from seaanchor.errors import SeaAnchorError

BEFORE = InputSettings(Preprocessing(32), (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def test_what_is_named_changes_and_the_rest_stays():
    after = changed(BEFORE, "resize_mode=squash, interpolation=bilinear,mean=0.5,std=0.25/0.5/0.75")
    assert after == InputSettings(Preprocessing(32, "squash", "bilinear"), (0.5, 0.5, 0.5), (0.25, 0.5, 0.75))
    assert changed(BEFORE, "") == BEFORE
    assert changed(BEFORE, "resize_size=40,fill=7").preprocessing == Preprocessing(32, resize_size=40, fill=7)
    assert changed(BEFORE, "fill=1/2/3,colours=rgb").preprocessing.fill == (1, 2, 3)


def test_its_own_words_are_read_again():
    for text in ("", "resize_mode=longest,fill=1/2/3,colours=rgb,std=0.123456789", "backend=torchvision,crop=down"):
        settings = changed(BEFORE, text)
        assert changed(BEFORE, str(settings).removeprefix("size=32,")) == settings


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("squash", "'squash' is not understood"),
        ("mode=squash", "'mode=squash' is not understood"),
        ("resize_mode=stretch", "resize_mode is 'stretch'"),
        ("mean=half", "mean=half"),
        ("mean=0.1/0.2", "mean"),
        ("std=0", "std 0.0"),
        ("resize_size=1.5", r"resize_size=1\.5"),
        ("fill=300", "fill is 300"),
        ("fill=1,fill=2", "'fill=2' is there twice"),
    ],
)
def test_what_is_not_understood(text, found):
    with pytest.raises(SeaAnchorError, match=found):
        changed(BEFORE, text)


def test_the_size_is_another_option():
    with pytest.raises(SeaAnchorError) as caught:
        changed(BEFORE, "size=64")
    assert caught.value.change == "set --image-size"
