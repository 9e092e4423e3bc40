"""Files of class names as other programs write them."""

import json

import pytest

from seaanchor.data.names import read_class_names
from seaanchor.errors import SeaAnchorError

SYNSETS = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn01484850 great white shark\n"
FOLDERS = ["n01440764", "n01484850"]


def file_of(folder, name: str, content: str):
    (folder / name).write_text(content, encoding="utf-8", newline="")
    return folder / name


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("LOC_synset_mapping.txt", SYNSETS),
        ("words.txt", SYNSETS.replace(" ", "\t", 1).replace("\nn01443537 ", "\nn01443537\t")),
        ("map_clsloc.txt", "n01484850 1 great_white_shark\nn01440764 2 tench\n".replace("_", " ")),
        ("names.csv", "id,name\nn01440764,tench\nn01443537,goldfish\nn01484850,great white shark\n"),
        (
            "imagenet_class_index.json",
            json.dumps({"0": ["n01440764", "tench"], "2": ["n01484850", "great_white_shark"]}),
        ),
    ],
)
def test_lists_with_wordnet_ids_name_folders_by_their_ids(tmp_path, name, content):
    assert read_class_names(file_of(tmp_path, name, content), FOLDERS) == ("tench", "great white shark")


def test_a_list_with_wordnet_ids_in_order_names_class_numbers(tmp_path):
    file = file_of(tmp_path, "LOC_synset_mapping.txt", SYNSETS)
    assert read_class_names(file, None) == ("tench", "goldfish", "great white shark")
    assert read_class_names(file, ["0", "1", "2"]) == ("tench", "goldfish", "great white shark")
    with pytest.raises(SeaAnchorError, match="does not name n99999999"):
        read_class_names(file, ["n01440764", "n99999999"])
    shuffled = file_of(tmp_path, "shuffled.txt", "".join(reversed(SYNSETS.splitlines(keepends=True))))
    with pytest.raises(SeaAnchorError, match="has none of these for its classes"):
        read_class_names(shuffled, None)


def test_words_that_two_ids_begin_with_are_given_in_full(tmp_path):
    file = file_of(tmp_path, "synsets.txt", "n02113186 Cardigan, Cardigan Welsh corgi\nn02963159 cardigan\n")
    assert read_class_names(file, None) == ("Cardigan, Cardigan Welsh corgi", "cardigan")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "0 cat\n1 dog\n2 emu\n"),
        ("a.txt", "2: emu\r\n0: cat\r\n1: dog\r\n"),
        ("a.txt", "cat,0\ndog,1\nemu,2\n"),
        ("a.csv", "class,label\n0,cat\n1,dog\n2,emu\n"),
        ("a.tsv", "cat\t0\nemu\t2\ndog\t1\n"),
        ("a.csv", "cat\ndog\nemu\n"),
        ("a.json", '{"cat": 0, "emu": 2, "dog": 1}'),
        ("a.json", '{"0": "cat", "2": "emu", "1": "dog"}'),
        ("a.txt", "\ufeffcat\rdog\remu\r\r"),
    ],
)
def test_lists_with_class_numbers(tmp_path, name, content):
    file = file_of(tmp_path, name, content)
    for own in (None, ["0", "1", "2"], ["a", "b", "c"]):
        assert read_class_names(file, own) == ("cat", "dog", "emu")


def test_lines_numbered_from_one(tmp_path):
    file = file_of(tmp_path, "a.txt", "1. cat\n2. dog\n")
    assert read_class_names(file, ["x", "y"]) == read_class_names(file, ["1", "2"]) == ("cat", "dog")
    with pytest.raises(SeaAnchorError, match="does not name 0"):
        read_class_names(file, ["0", "1"])


@pytest.mark.parametrize(
    "names", [["1 euro", "5 euro"], ["class 0", "class 1"], ["tench, Tinca", "3D printer"], ["7", "9"]]
)
def test_numbers_that_belong_to_the_names_stay(tmp_path, names):
    assert read_class_names(file_of(tmp_path, "a.txt", "\n".join(names)), None) == tuple(names)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.txt", "cat\n\nemu\n", "line 2 of .* is blank"),
        ("a.csv", "cat,grey,1\ndog,brown,2\n", "a table of 2 rows with 3 columns"),
        ("a.csv", "cat,grey\ndog,brown\n", "2 columns"),
        ("a.csv", '"cat\ndog', "could not be read"),
        ("a.txt", "\n\n", "is empty"),
        ("a.json", "{}", "is empty"),
        ("a.json", "[" * 100_000, "could not be read"),
        ("a.txt", "1 cat\n2 dog\n", "maps names from 1, 2"),
        ("a.json", '{"cat": 1, "dog": 2}', "gives the class numbers 1, 2"),
        ("a.json", '{"cat": "a", "cat": "b"}', "names cat twice"),
        ("a.json", '{"cat": 0, "dog": "b"}', "something other than names"),
    ],
)
def test_lists_that_leave_a_doubt(tmp_path, name, content, found):
    with pytest.raises(SeaAnchorError, match=found):
        read_class_names(file_of(tmp_path, name, content), None)
