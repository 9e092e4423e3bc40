"""Stored labels as class numbers."""

import pytest

from seaanchor.data.labels import class_numbers, own_names
from seaanchor.errors import SeaAnchorError


def numbers(values, names, own=None):
    found = class_numbers(values, names, own, "SET", [f"row {i}" for i in range(len(values))])
    return [number for number, _ in found], [reason for _, reason in found if reason]


def test_numbers_and_texts_of_numbers():
    assert numbers([0, "1", 1.0, True, "01"], ["a", "b"]) == ([0, 1, 1, 1, 1], [])
    assert numbers([None, -1, "x1", 0.5, "1_0", "+1", [1], 0], ["a"])[1] == [
        "row 0 has no class number",
        "row 1: class -1",
        "row 2: 'x1' is no class number",
        "row 3: '0.5' is no class number",
        "row 4: '1_0' is no class number",
        "row 5: '+1' is no class number",
        "row 6: '[1]' is no class number",
    ]


def test_numbers_that_no_name_belongs_to():
    with pytest.raises(SeaAnchorError, match="class 2 has images and no name: 2 of 4 images of SET") as caught:
        numbers([0, 1, 2, 7], ["a", "b"])
    assert "add the names" in caught.value.change
    with pytest.raises(SeaAnchorError) as caught:
        numbers([1, 2, 3], ["a", "b", "c"])
    assert "begin at 1" in caught.value.change


def test_texts_are_looked_up_among_the_names():
    values = ["Zebra", "red_fox", None]
    assert own_names(values) == ("Zebra", "red_fox")
    assert numbers(values, ["f", "z"], ["red fox", "zebra"]) == ([1, 0, -1], ["row 2 has no class number"])
    assert own_names(["1", "b"]) is None and own_names([None]) is None and own_names([1]) is None
    with pytest.raises(SeaAnchorError, match="the labels of SET has the classes yak"):
        numbers(["yak"], ["f", "z"], ["red fox", "zebra"])
