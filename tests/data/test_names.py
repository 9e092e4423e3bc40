"""Class names and prompts from wherever they are written."""

import json
from pathlib import Path

import open_clip
import pytest

from seaanchor.data.folder import list_images
from seaanchor.data.names import read_class_names, read_templates
from seaanchor.errors import SeaAnchorError


def test_names_on_the_command_line(image_folder, tmp_path, monkeypatch):
    assert list_images(image_folder, Path("a, r ,z")).class_names == ("a", "r", "z")
    assert read_class_names(Path("a,r"), None) == ("a", "r")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,r,z").write_text("x\ny\nw\n")
    assert read_class_names(Path("a,r,z"), None) == ("x", "y", "w")  # a file of that name comes first


def test_a_list_that_does_not_fit_says_who_is_left_over():
    with pytest.raises(SeaAnchorError, match="3 names: 'c' is a class without images"):
        read_class_names(Path("a,b,c"), ["x", "y"])
    with pytest.raises(SeaAnchorError, match="2 names: 'z' has images and no class"):
        read_class_names(Path("a,b"), ["x", "y", "z"])


def test_a_mapping_needs_something_to_map(tmp_path):
    (tmp_path / "names.json").write_text(json.dumps({"x": "a"}))
    with pytest.raises(SeaAnchorError, match="has none of these for its classes"):
        read_class_names(tmp_path / "names.json", None)


def test_imagenet_names_a_part_of_imagenet_by_its_folders():
    names = read_class_names(Path("imagenet"), None)
    assert len(names) == 1000
    assert (
        read_class_names(Path("imagenet"), ["n01440764", "n02099601"])
        == (names[0], names[207])
        == ("tench", "Golden Retriever")
    )
    with pytest.raises(SeaAnchorError, match="1000 names"):
        read_class_names(Path("imagenet"), ["apple", "pear"])


def test_templates_from_the_command_line_files_and_lists(tmp_path):
    (tmp_path / "prompts.txt").write_text("a {c}.\n\nthe {}.\n")
    (tmp_path / "prompts.json").write_text(json.dumps(["one {}"]))
    got = read_templates(["my {}", str(tmp_path / "prompts.txt"), str(tmp_path / "prompts.json")])
    assert got == ("my {}", "a {}.", "the {}.", "one {}")
    whole, short = read_templates(["openai-imagenet"]), read_templates(["simple-imagenet"])
    assert (len(whole), len(short)) == (80, 7)
    assert set(short) < set(whole)
    assert [t.replace("{}", "fox") for t in whole] == [t("fox") for t in open_clip.OPENAI_IMAGENET_TEMPLATES]


@pytest.mark.parametrize(("content", "found"), [("a {}\nno place\n", "'no place' of"), ("", "there is no template")])
def test_a_prompt_without_a_place_is_named(tmp_path, content, found):
    (tmp_path / "prompts.txt").write_text(content)
    with pytest.raises(SeaAnchorError, match=found):
        read_templates([str(tmp_path / "prompts.txt")])


@pytest.mark.parametrize(
    ("value", "found"),
    [("a photo", "'a photo' has no {}"), ("openai-imagenett", "has no {}, and is no file"), ("", "has no {}")],
)
def test_what_is_neither_prompt_nor_file_nor_list(value, found):
    with pytest.raises(SeaAnchorError, match=found):
        read_templates([value])


@pytest.mark.parametrize("content", ['{"a": "b {}"}', "[3]", "["])
def test_json_that_holds_no_prompts(tmp_path, content):
    (tmp_path / "prompts.json").write_text(content)
    with pytest.raises(SeaAnchorError, match=r"prompts\.json"):
        read_templates([str(tmp_path / "prompts.json")])


def test_imagenets_names_are_distinct_and_differ_from_openclips_in_two():
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    from seaanchor.utils.text import check_distinct

    names = read_class_names(Path("imagenet"), None)
    check_distinct(names)  # raises if two are the same, capitals aside
    assert [(a, b) for a, b in zip(IMAGENET_CLASSNAMES, names, strict=True) if a != b] == [
        ("missile", "projectile"),
        ("sunglasses", "sunglass"),
    ]
