"""Settings: round trip, helpful refusals, and no refusal of what is legal."""

import ast
import inspect
import re
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import get_args

import pytest
import yaml

import seaanchor.config.schema
from seaanchor.config.io import RENAMED
from seaanchor.config.recipes import RECIPES
from seaanchor.config.schema import (
    AnchorConfig,
    PerturbationConfig,
    RunConfig,
    from_dict,
    parse_epsilon,
    read_yaml,
    to_dict,
)
from seaanchor.config.validation import check
from seaanchor.errors import SeaAnchorError, note


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_legal_and_survives_yaml(name, tmp_path):
    config = check(RECIPES[name]())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(to_dict(config)))
    assert from_dict(RunConfig, read_yaml(tmp_path / "recipe.yaml")) == config


def test_settings_of_every_type_survive_yaml(tmp_path):
    config = replace(
        RECIPES["lore"](),
        val_data=("emoji", "photos-mini"),
        class_names=Path("names.json"),
        templates=("a {}", "the {}"),
        output=Path("a/b"),
        max_steps=7,
        grad_clip=0.5,
        lr=1e-7,
        eval_every=5,
        precision="bf16",
        image_size=64,
        pretrained="no",
        anchor=AnchorConfig("lagrangian", space="distribution", max_multiplier=3.0, exact_dual=True),
        perturbation=PerturbationConfig(epsilon="0.5", norm="l2", step_size="0.1", random_start=False),
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(to_dict(config)))
    assert from_dict(RunConfig, read_yaml(tmp_path / "recipe.yaml")) == check(config)


def test_yaml_as_people_write_it(tmp_path):
    """`no` is a boolean, `1e-5` a string and `4/255` a string in YAML 1.1; a single template needs no list."""
    text = (
        "lr: 1e-5\nanchor:\n  kind: penalty\n  space: distribution\nperturbation:\n  epsilon: 4/255\n  "
        "random_start: no\ntemplates: a {}\n"
    )
    (tmp_path / "r.yaml").write_text(text)
    config = from_dict(RunConfig, read_yaml(tmp_path / "r.yaml"))
    assert config.lr == 1e-5 and config.anchor.space == "distribution" and config.templates == ("a {}",)
    assert config.perturbation == PerturbationConfig(epsilon="4/255", random_start=False)


@pytest.mark.parametrize("key", ["on", "'on'", '"on"'])
def test_a_setting_under_its_old_name_is_read_and_noted(key, tmp_path, capsys):
    """A bare `on` is a boolean in YAML 1.1."""
    note.cache_clear()
    (tmp_path / "r.yaml").write_text(f"anchor:\n  kind: penalty\n  {key}: distribution\n")
    config = from_dict(RunConfig, read_yaml(tmp_path / "r.yaml"))
    assert config.anchor == AnchorConfig("penalty", space="distribution")
    errors = capsys.readouterr().err
    assert errors == "note: the setting anchor.on is now called anchor.space; the old name is still read\n"


def test_a_setting_under_both_names_is_a_mistake():
    with pytest.raises(SeaAnchorError, match=r"anchor\.on and anchor\.space are two names of one setting"):
        from_dict(RunConfig, {"anchor": {"on": "distribution", "space": "embedding"}})


def test_every_old_name_leads_to_a_setting():
    for new in RENAMED.values():
        value = to_dict(RunConfig())
        for name in new.split("."):
            assert name in value, new
            value = value[name]


@pytest.mark.parametrize(
    ("text", "value"), [("4/255", 4 / 255), ("0.1", 0.1), (0, 0.0), ("1", 1.0), (" 8 / 255 ", 8 / 255)]
)
def test_epsilon(text, value):
    assert parse_epsilon(text) == value


@pytest.mark.parametrize("text", [4, "4", "4.0", 4.0])
def test_epsilon_in_255ths_is_asked_about(text):
    with pytest.raises(SeaAnchorError, match=r"did you mean 4/255\?"):
        parse_epsilon(text)
    assert parse_epsilon(text, "l2") == 4.0  # in l2 it is ordinary
    with pytest.raises(SeaAnchorError, match=r"did you mean 4/255\?"):
        check(replace(RunConfig(), perturbation=PerturbationConfig(epsilon=str(text))))


@pytest.mark.parametrize("text", ["four", "", "1/0", "-0.1", "nan", "inf", "1/2/3"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_epsilon(text, norm):
    with pytest.raises(SeaAnchorError) as error:
        parse_epsilon(text, norm)
    assert "did you mean" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"batchsize": 3}, r"unknown setting batchsize[\s\S]*did you mean batch_size\?"),
        ({"anchor": {"kid": "lagrangian"}}, r"unknown setting anchor\.kid[\s\S]*did you mean anchor\.kind\?"),
        ({"epsilon": "2/255"}, r"unknown setting epsilon[\s\S]*did you mean perturbation\.epsilon\?"),
        ({"zzzzzz": 1}, r"unknown setting zzzzzz[\s\S]*remove it"),
        ({"batch_size": "many"}, "batch_size is 'many'[\\s\\S]*type int"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": None}, "batch_size is None"),
        ({"epochs": float("inf")}, "epochs is inf"),
        ({"lr": [1]}, "lr is"),
        ({"lr": True}, "lr is True"),
        ({"perturbation": {"random_start": "maybe"}}, r"perturbation\.random_start is 'maybe'"),
        ({"anchor": {"kind": "lagrange"}}, r"anchor\.kind is 'lagrange'[\s\S]*did you mean lagrangian\?"),
        ({"anchor": "lagrangian"}, "anchor is 'lagrangian'[\\s\\S]*section"),
        ({"templates": {"a": 1}}, r"templates is \{'a': 1\}"),
    ],
)
def test_mistakes_are_named(data, message):
    with pytest.raises(SeaAnchorError, match=message):
        from_dict(RunConfig, data)


def test_every_setting_is_documented():
    """A string follows each field: it is the help text of the flag."""
    for node in ast.parse(inspect.getsource(seaanchor.config.schema)).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            documented = [
                a.target.id
                for a, b in zip(node.body, node.body[1:], strict=False)
                if isinstance(a, ast.AnnAssign) and isinstance(b, ast.Expr)
            ]
            nested = {
                f.name for f in fields(getattr(seaanchor.config.schema, node.name)) if is_dataclass(f.default_factory)
            }
            assert set(documented) | nested == {f.name for f in fields(getattr(seaanchor.config.schema, node.name))}, (
                node.name
            )


def settings_of(cls: type, where: str = "") -> list[str]:
    """Every setting as `name: type = default`."""
    lines = []
    for f in fields(cls):
        default = f.default_factory() if f.default is MISSING else f.default
        if is_dataclass(default):
            lines += settings_of(type(default), f"{where}{f.name}.")
        else:
            kind = f.type if isinstance(f.type, str) else getattr(f.type, "__name__", None)
            text = str(f.type) if get_args(f.type) else kind
            line = f"{where}{f.name}: {text} = {default!r}".replace("PosixPath", "Path").replace("typing.", "")
            lines.append(re.sub(r"pathlib\.(_local\.)?", "", line))
    return lines


def test_the_list_of_settings_is_what_was_decided():
    """A new setting is a decision: it has to show that it is worth its place, and be added to settings.txt by hand."""
    assert settings_of(RunConfig) == (Path(__file__).parent / "settings.txt").read_text().splitlines()


def test_settings_that_did_not_prove_themselves_say_so():
    """docs/results.md has the measurements."""
    source = inspect.getsource(seaanchor.config.schema)
    for name in ("violators_only", "augmented", "reference", "reference_decay"):
        after = source[source.index(f"\n    {name}: ") :]
        assert "(experimental)" in after[: after.index('"""', after.index('"""') + 3)], name


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", ""])
def test_files_that_are_no_recipe(text, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(SeaAnchorError):
        read_yaml(tmp_path / "r.yaml")
    with pytest.raises(SeaAnchorError, match=r"missing\.yaml"):
        read_yaml(tmp_path / "missing.yaml")
