"""Lists and mappings of names beside numbers, folders and names that a data set has."""

import json
from pathlib import Path

import pytest

from seaanchor.data.name_pairing import class_order, match_classes, pair_names
from seaanchor.data.names import read_class_names
from seaanchor.errors import SeaAnchorError

TWELVE = ["nil", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


def test_a_list_beside_numbers_is_in_their_order(capsys):
    for own in (class_order([str(i) for i in range(12)]), sorted(map(str, range(12))), [f"{i:03}" for i in range(12)]):
        assert dict(zip(own, pair_names(TWELVE, own, "list"), strict=True)) == {name: TWELVE[int(name)] for name in own}
    assert capsys.readouterr().err == ""


def test_numbers_from_one_say_how_they_were_paired(capsys):
    own = class_order([str(i) for i in range(1, 13)])
    assert pair_names(TWELVE, own, "list.txt") == tuple(TWELVE)
    assert "named from list.txt: 1 = nil, 2 = one, 3 = two, ..., 12 = eleven" in capsys.readouterr().err


def test_a_word_before_the_numbers(capsys):
    own = class_order([f"c{i}" for i in range(12)])
    assert own[2] == "c2" and pair_names(TWELVE, own, "list") == tuple(TWELVE)
    assert "c11 = eleven" in capsys.readouterr().err  # sorted as texts, it would be another class
    wordnet = ["n01440764", "n02099601"]
    assert pair_names(["tench", "retriever"], wordnet, "list") == ("tench", "retriever")
    assert capsys.readouterr().err == ""


def test_numbers_before_the_names(capsys):
    own = class_order(["10_jay", "1_ant", "2_bee"])
    assert own == ["1_ant", "2_bee", "10_jay"]
    assert pair_names(["ant", "bee", "jay"], own, "list") == ("ant", "bee", "jay")
    assert pair_names(["ant", "bee", "jay"], ["10_jay", "1_ant", "2_bee"], "list") == ("jay", "ant", "bee")
    assert capsys.readouterr().err.count("1_ant = ant, 2_bee = bee") == 1
    assert class_order(["2012 car", "2010 car", "2012 bus"]) == ["2010 car", "2012 bus", "2012 car"]


def test_numbers_too_large_to_count_to():
    with pytest.raises(SeaAnchorError, match="the classes 0, 1, 2, 3, 4 is missing"):
        pair_names(["a", "b"], ["1" * 17, "2" * 17], "list")
    assert class_order(["1" * 40, "2" * 30]) == ["1" * 40, "2" * 30]


@pytest.mark.parametrize("own", [["0", "1", "3"], ["2", "3", "4"], ["1", "2", "4"]])
def test_gaps_between_numbers_are_refused_and_a_mapping_is_not(own):
    with pytest.raises(SeaAnchorError, match="is missing") as caught:
        pair_names(["a", "b", "c"], own, "list")
    assert "JSON mapping" in caught.value.change
    assert pair_names({name: f"n{name}" for name in "01234"}, own, "map") == tuple(f"n{name}" for name in own)
    assert pair_names({name: f"n{name}" for name in "01234"}, [f"0{name}" for name in own], "map")[0] == f"n{own[0]}"


def test_more_names_than_numbers_names_the_gap():
    with pytest.raises(SeaAnchorError, match="4 names: of the numbers from 0, 2 has no images"):
        pair_names(["a", "b", "c", "d"], ["0", "1", "3"], "list")
    with pytest.raises(SeaAnchorError, match="01 and 1 are one number"):
        class_order(["1", "01", "2"])


def test_the_own_names_in_another_order_are_refused():
    with pytest.raises(SeaAnchorError, match="has 'zebra' where 'apple' is expected, and 'zebra' is another class"):
        pair_names(["zebra", "Red Fox", "apple"], ["apple", "red_fox", "zebra"], "list")
    assert pair_names(["an apple", "Red Fox", "zebra"], ["apple", "red_fox", "zebra"], "list")[1] == "Red Fox"


def test_accents_in_both_spellings(tmp_path):
    file = tmp_path / "names.json"
    file.write_text(json.dumps({"caf\u00e9": "coffee house", "the\u0301": "tea"}))
    assert read_class_names(file, ["cafe\u0301", "th\u00e9"]) == ("coffee house", "tea")


def test_classes_of_two_data_sets_are_matched_by_name():
    train = ("airplane", "butterfly", "car", "dolphin", "cafe\u0301", "Red_fox")
    assert match_classes(("dolphin", "Car", "caf\u00e9", "red fox"), train, "test", "train") == (3, 2, 4, 5)
    with pytest.raises(SeaAnchorError, match="test has the classes laptop, which train lacks"):
        match_classes(("butterfly", "car", "dolphin", "laptop"), train, "test", "train")
    with pytest.raises(SeaAnchorError, match="train has two classes of the name 'Cat '"):
        match_classes(("cat",), ("cat", "Cat "), "test", "train")


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "two\nlines", "a\u2028b", "caf\udce9"])
def test_names_that_cannot_be(tmp_path, name):
    file = tmp_path / "names.json"
    file.write_text(json.dumps([name, "b"]))
    with pytest.raises(
        SeaAnchorError, match=r"is not UTF-8|goes over several lines|control character|other than names"
    ):
        read_class_names(file, ["x", "y"])


def test_a_list_of_names_that_is_longer_than_a_path():
    names = tuple(f"class {i}" for i in range(2000))
    assert read_class_names(Path(",".join(names)), None) == names
