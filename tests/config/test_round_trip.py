"""A configuration survives plain data, YAML and a file, whatever its values are."""

import tempfile
from dataclasses import replace
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seaanchor.config.io import from_dict, read_yaml, to_dict
from seaanchor.config.recipes import RECIPES
from seaanchor.config.schema import RunConfig, parse_epsilon

FOLDER = tempfile.TemporaryDirectory()
quick = settings(derandomize=True, deadline=None, max_examples=80, database=None)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
positive = st.floats(1e-9, 1e6, allow_nan=False, allow_infinity=False)
counts = st.integers(1, 10**6)
settings_of_a_run = st.fixed_dictionaries(
    {},
    optional={
        "model": texts,
        "pretrained": st.none() | texts,
        "image_size": st.none() | counts,
        "val_data": st.lists(texts, max_size=3).map(tuple),
        "class_names": st.none() | texts.map(Path),
        "templates": st.lists(texts, min_size=1, max_size=3).map(tuple),
        "output": texts.map(Path),
        "unit_embeddings": st.booleans(),
        "primal_steps": counts,
        "max_steps": st.none() | counts,
        "lr": positive,
        "wd": positive,
        "grad_clip": st.none() | positive,
        "precision": st.sampled_from(["fp32", "bf16"]),
        "device": st.none() | texts,
        "seed": st.integers(-(2**40), 2**40),
    },
)
recipes = st.sampled_from(sorted(RECIPES))


@quick
@given(recipes, settings_of_a_run)
def test_any_configuration_comes_back_from_plain_data_and_yaml(recipe, changes):
    config = replace(RECIPES[recipe](), **changes)
    data = to_dict(config)
    assert from_dict(RunConfig, data) == config
    assert from_dict(RunConfig, yaml.safe_load(yaml.safe_dump(data))) == config
    assert to_dict(from_dict(RunConfig, data)) == data
    file = Path(FOLDER.name) / "run.yaml"
    file.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    assert from_dict(RunConfig, read_yaml(file)) == config


@quick
@given(st.integers(0, 255), st.floats(0, 1))
def test_radii_as_fractions_and_as_numbers(numerator, number):
    assert parse_epsilon(f"{numerator}/255") == numerator / 255
    assert parse_epsilon(number) == number and parse_epsilon(str(number)) == number
