"""Paths in a run folder lead where they led, from every working folder."""

import json
from pathlib import Path
from typing import get_args

import pytest
import yaml

from seaanchor.config.io import to_dict
from seaanchor.config.recipes import recipe_named
from seaanchor.config.run_settings import TOKENS, for_run_folder, read_settings, read_start, with_absolute_paths
from seaanchor.config.schema import PerturbationConfig, RunConfig, replace
from seaanchor.encoders.tokens import Tokens
from seaanchor.errors import SeaAnchorError


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A working folder with what settings name, and a run in it."""
    for name in ("base.pt", "data/fare.pt", "odd+name.pt", "names.txt", "words.txt", "openai", "tokens#1.pt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("photos/train", "clip", "ViT-B-32", "runs/x", "tower"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "clip" / "open_clip_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "given", "written"),
    [
        ("model", "clip", "../../clip"),
        ("model", "local-dir:clip", "local-dir:../../clip"),
        ("model", "timm:local-dir:tower", "timm:local-dir:../../tower"),
        ("model", "ViT-B-32", "ViT-B-32"),  # a folder of this name is none that the loader takes
        ("model", "seaanchor-tiny", "seaanchor-tiny"),
        ("pretrained", "base.pt", "../../base.pt"),
        ("pretrained", "openai", "openai"),
        ("pretrained", "openai+data/fare.pt", "openai+../../data/fare.pt"),
        ("pretrained", "base.pt+data/fare.pt#model", "../../base.pt+../../data/fare.pt#model"),
        ("pretrained", "openai+odd+name.pt", "openai+../../odd+name.pt"),
        ("pretrained", "+data/fare.pt", "+../../data/fare.pt"),
        ("pretrained", "tokens#1.pt", "../../tokens#1.pt"),
        ("pretrained", "missing.pt", "missing.pt"),
        ("train_data", "photos/train", "../../photos/train"),
        ("train_data", "photos-mini/train", "photos-mini/train"),
        ("train_data", "runs/x", "./."),
        ("class_names", "names.txt", "../../names.txt"),
    ],
)
def test_relative_paths_are_relative_to_the_run(project, key, given, written, monkeypatch):
    settings = for_run_folder({key: given, "output": "runs/x"}, Path("runs/x"))
    assert settings == {key: written, "output": "./"}
    file = project / "runs" / "x" / "config.yaml"
    file.write_text(yaml.safe_dump(settings))
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    found = read_settings(Path("../runs/x/config.yaml"))
    monkeypatch.chdir(project)
    assert with_absolute_paths(found)[key] == with_absolute_paths({key: given})[key]
    assert found["output"] == "../runs/x"


def test_absolute_paths_and_other_settings_stay(project):
    given = RunConfig(model=str(project / "clip"), val_data=("photos", "emoji/test"), output=Path("runs/x"))
    given = replace(given, perturbation=PerturbationConfig("attribute", swap="words.txt"))
    settings = for_run_folder(to_dict(given), given.output)
    assert settings["model"] == str(project / "clip")
    assert settings["val_data"] == ["../../photos", "emoji/test"]
    assert settings["perturbation"]["swap"] == "../../words.txt"
    same = {"model", "val_data", "perturbation", "output"}
    assert {k: v for k, v in settings.items() if k not in same} == {
        k: v for k, v in to_dict(given).items() if k not in same
    }


def test_a_runs_settings_are_a_recipe_from_anywhere(project, monkeypatch):
    given = RunConfig(model="clip", train_data="photos", class_names=Path("names.txt"), output=Path("runs/x"))
    file = project / "runs" / "x" / "config.yaml"
    file.write_text(yaml.safe_dump(for_run_folder(to_dict(given), given.output)))
    monkeypatch.chdir(project / "data")
    found = recipe_named(str(file))
    assert found.model == str(project / "clip") and found.train_data == str(project / "photos")
    assert found.class_names == project / "names.txt" and found.output == file.parent


def test_settings_of_an_ordinary_recipe_are_read_as_they_are(project):
    """Also those of a run by an earlier version, whose paths are relative to the working folder of then."""
    settings = {"model": "./clip", "train_data": "../photos", "output": "runs/x"}
    Path("recipe.yaml").write_text(json.dumps(settings))
    assert read_settings(Path("recipe.yaml")) == settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"seed": "é"}, "seed"),
        ({"seed": 2**70}, "seed"),
        ({"seed": -1}, "seed"),
        ({"model": 3}, "model"),
        ({"image_size": "large"}, "image_size"),
        ({"preprocess": ["a"]}, "preprocess"),
        ({"tokens": "all"}, "tokens"),
        ({"anchor": {"rho": "wide"}}, "rho"),
        ({"anchor": [1]}, "anchor"),
    ],
)
def test_what_a_run_says_of_its_start_has_types(tmp_path, settings, said):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": "x"} | settings))
    with pytest.raises(SeaAnchorError, match=f"config.yaml: .*{said}"):
        read_start(tmp_path)


def test_what_a_run_says_of_its_start(tmp_path):
    written = {
        "model": "x",
        "seed": 3,
        "anchor": {"rho": 0.1, "kind": "lagrangian"},
        "pretrained": None,
        "epochs": "no",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(written))
    found = read_start(tmp_path)
    assert (found.model, found.seed, found.pretrained, found.anchor.rho) == ("x", 3, None, 0.1)
    assert get_args(Tokens) == TOKENS
