"""Results of different images never stand in one table."""

import json

import pytest

from seaanchor.report.sources import read_sources
from seaanchor.report.tables import apart, datasets


def tables(made, folder, **protocols):
    """The tables of a page with one model for each protocol; `dataset` in one is the name of its data."""
    for name, protocol in protocols.items():
        data = {"model": name, "pretrained": name, "dataset": protocol.pop("dataset", "photos")}
        (folder / f"{name}.json").write_text(json.dumps(made.everything(protocol=protocol, **data)))
    return datasets(read_sources([folder]).entries)


def models(found):
    return sorted(sorted(f.entry.label for f in table.found) for table in found)


@pytest.mark.parametrize(
    ("a", "b", "together"),
    [
        ({"images": "1"}, {"images": "1"}, True),
        ({"images": "1"}, {"images": "2"}, False),
        ({"images": "1", "seed": 0}, {"images": "1", "seed": 1}, True),  # the list decides
        ({"seed": 0, "samples": 50}, {"seed": 0, "samples": 60}, False),
        ({"seed": 0}, {"images": "1", "seed": 0}, True),  # an older file that does not say
        ({"images": "1", "class_names": ["x"]}, {"images": "2", "class_names": ["x", "y"]}, True),  # numbers of classes
        ({"dataset": "photos"}, {"dataset": "drawings"}, False),
    ],
)
def test_which_models_share_a_table(a, b, together, made, tmp_path):
    found = tables(made, tmp_path, a=a, b=b)
    assert models(found) == ([["a", "b"]] if together else [["a"], ["b"]])
    assert bool(apart(found)) is not together


def test_the_sentence_names_every_model_and_its_images(made, tmp_path):
    found = tables(
        made, tmp_path, a={"images": "1", "seed": 3}, b={"images": "2", "seed": 4}, c={"dataset": "drawings"}
    )
    sentence = apart(found)
    assert sentence.count(".") == 1 and sentence.startswith("Models that were measured on different images are not")
    for words in ("a on photos (50 images, seed 3)", "b on photos (50 images, seed 4)", "c on drawings"):
        assert words in sentence


def test_models_with_a_table_in_common_need_no_sentence(made, tmp_path):
    for name, dataset in (("x", "photos"), ("x", "drawings"), ("y", "photos"), ("y", "drawings"), ("z", "drawings")):
        data = made.everything(model=name, pretrained=name, dataset=dataset)
        (tmp_path / f"{name}-{dataset}.json").write_text(json.dumps(data))
    assert apart(datasets(read_sources([tmp_path]).entries)) == ""


def test_the_same_images_under_other_names_of_seeds_keep_their_warning(made, tmp_path):
    (table,) = tables(made, tmp_path, a={"images": "1", "templates": ["a {}."]}, b={"images": "1", "templates": ["{}"]})
    assert table.warnings == ("The results differ in templates: compare them with care.",)
