"""Class names, templates and swapped words, for any text."""

import json
import tempfile
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seaanchor.data.names import read_class_names, read_templates
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.text import check_distinct, plain, swap_words

FOLDER = tempfile.TemporaryDirectory()
quick = settings(derandomize=True, deadline=None, max_examples=80, database=None)
letters = st.characters(categories=("L", "N", "P", "S", "Zs"))
words = st.text(letters, min_size=1, max_size=12).filter(lambda text: text.strip())
names = st.lists(words, min_size=1, max_size=6)


def written(name: str, text: str) -> Path:
    file = Path(FOLDER.name) / name
    file.write_text(text, encoding="utf-8")
    return file


@quick
@given(names)
def test_names_of_a_json_list_and_of_a_mapping_come_back(given_names):
    expected = tuple(normalize("NFC", name).strip() for name in given_names)
    assert read_class_names(written("names.json", json.dumps(given_names)), None) == expected
    folders = [f"n{i}" for i in range(len(given_names))]
    mapping = dict(reversed(list(zip(folders, given_names, strict=True))))
    assert read_class_names(written("names.json", json.dumps(mapping)), folders) == expected


@quick
@given(st.lists(st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12), min_size=1, max_size=6))
def test_names_one_a_line_come_back(given_names):
    expected = tuple(normalize("NFC", name) for name in given_names)  # accents are spelt in one way
    assert read_class_names(written("names.txt", "\n".join(given_names)), None) == expected


@quick
@given(words, words, st.sampled_from(["{}", "{c}"]))
def test_a_template_keeps_its_words_and_gets_its_place(before, after, place):
    assume("{" not in before + after)
    prompt = f"{before} {place} {after}"
    (found,) = read_templates([prompt])
    assert found == f"{before} {{}} {after}" and found.replace("{}", "cat") == f"{before} cat {after}"
    assert read_templates([prompt, found]) == (found, found)


@quick
@given(st.text(max_size=30))
def test_plain_is_idempotent_and_has_single_spaces(text):
    once = plain(text)
    assert plain(once) == once or once != once.lower()  # a letter whose small form has another small form
    assert "  " not in once and once == once.strip()


@quick
@given(names)
def test_distinct_names_pass_and_a_repeated_one_is_named(given_names):
    distinct = list({plain(name): name for name in given_names}.values())
    check_distinct(distinct)
    with pytest.raises(SeaAnchorError, match="given twice"):
        check_distinct([*distinct, f" {distinct[0]} "])


@quick
@given(st.lists(st.sampled_from(["man", "Woman", "his", "runs", "a", "dog", ",", "Men"]), max_size=8))
def test_swapping_twice_gives_the_text_back(parts):
    pairs, text = [("man", "woman"), ("men", "women"), ("his", "hers")], " ".join(parts)
    swapped = swap_words(text, pairs)
    assert swap_words(swapped, pairs) == text
    assert len(swapped.split()) == len(text.split())
    assert (swapped == text) == (not {"man", "woman", "men", "his"} & {part.lower() for part in parts})
