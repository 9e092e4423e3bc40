"""Settings of a run as flags: groups of the help, and short forms."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from seaanchor.cli.settings import GROUPS, nested_settings, short_forms
from seaanchor.config.recipes import RECIPES
from seaanchor.config.schema import RunConfig


@pytest.fixture
def train(run, monkeypatch):
    """Runs `seaanchor train ...` up to the configuration it would train with."""
    import seaanchor.api as module
    import seaanchor.evaluation.advice as advice

    monkeypatch.setattr(advice, "evaluation_command", lambda folder: f"evaluate {folder}")  # there is no run to read
    monkeypatch.setattr(advice, "training_images_note", lambda folder, command: "")

    def call(*arguments: str) -> RunConfig:
        got = []
        monkeypatch.setattr(module, "train_from_config", lambda config: got.append(config) or Path("runs/x"))
        code, _, errors = run("train", *arguments)
        assert code == 0, errors
        return got[0]

    return call


def panels(out: str) -> dict[str, list[str]]:
    """The options of each panel of a help page, in order, by the first of their names."""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        if line.startswith("╭─ "):
            options = found.setdefault(line.strip("╭─╮ "), [])
        elif name := re.match(r"│ (?:\*  |   )?(--\S+)", line):
            options.append(name[1])
    return found


def test_every_setting_is_in_one_group():
    settings = [*(name for name in RunConfig.__dataclass_fields__ if "." not in name), *nested_settings()]
    expected = {name for name in settings if name not in ("objective", "anchor", "perturbation", "adapter")}
    listed = [name for names in GROUPS.values() for name in names]
    assert len(set(listed)) == len(listed)
    assert set(listed) == expected | {"dry_run", "dry_run_on", "dry_run_images", "plugin"}


def test_the_help_of_train_has_groups_sorted_by_use(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = panels(run("train", "--help")[1])
    assert list(shown) == ["Arguments", "Model", "Data", "Method", "Attack", "Optimisation", "Run"]
    assert shown["Model"][:2] == ["--model", "--pretrained"]
    assert shown["Method"][:4] == ["--objective.kind", "--anchor.kind", "--adapter.kind", "--rho"]
    assert shown["Attack"][:3] == ["--epsilon", "--perturbation.kind", "--norm"]
    assert shown["Run"][:2] == ["--output", "--dry-run"]
    assert sum(map(len, shown.values())) == sum(map(len, GROUPS.values())) - 1  # plugin and plugins are one


def test_the_help_of_evaluate_has_groups_sorted_by_use(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    shown = panels(run("evaluate", "--help")[1])
    assert list(shown) == ["Model", "Data", "Measures", "Attack", "Run"]
    firsts = [options[0] for options in shown.values()]
    assert firsts == ["--model", "--data", "--suite", "--epsilon", "--output"]


def test_help_breaks_lines_where_the_terminal_does_alone(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    out = run("train", "--help")[1]
    assert re.search(r"predict FLOPs, time and memory on them\. +│\n│ +They need not be in this machine; runs", out)
    out = " ".join(re.sub(r"[│\n]", " ", out).split())
    assert "Tag or weights file for bare OpenCLIP and timm names; BASE+FILE for an image tower's file over the" in out
    assert "[default: a photo of a {}.]" in out and "--empty" not in out and "default: False" not in out


def test_a_short_form_is_the_setting(train):
    lore = RECIPES["lore"]()
    config = train(
        "lore", "--epsilon", "4/255", "--rho=0.3", "--num-steps", "3", "--no-random-start", "--sizes", "0.1", "0.2"
    )
    attack = {"epsilon": "4/255", "num_steps": 3, "random_start": False, "sizes": (0.1, 0.2)}
    assert config == replace(
        lore, anchor=replace(lore.anchor, rho=0.3), perturbation=replace(lore.perturbation, **attack)
    )
    assert train("fare", "--last-blocks", "2").adapter.kind == "last_blocks"


def test_short_forms_are_unique_and_hide_no_other_option():
    short = [name.rpartition(".")[2] for name in short_forms()]
    assert len(set(short)) == len(short)
    assert {"epsilon", "rho", "num_steps", "beta"} <= set(short)
    assert not {"kind", "relative", "options", *RunConfig.__dataclass_fields__} & set(short)
    assert "perturbation.epsilon" not in short_forms(["epsilon"])


def test_a_sweep_keeps_its_own_epsilon(run, monkeypatch):
    import seaanchor.sweeps.sweep as module

    got = []
    monkeypatch.setattr(module, "sweep", lambda config, *rest, **_: got.append((config, rest)))
    arguments = ("--data", "photos/test", "--vary", "lr=1e-4", "--rho", "0.3", "--epsilon", "8/255")
    code, _, errors = run("sweep", "lore", *arguments)
    assert code == 0, errors
    ((config, rest),) = got
    lore = RECIPES["lore"]()
    assert config == replace(lore, anchor=replace(lore.anchor, rho=0.3))
    assert rest[3].protocol.plans[0].epsilons == (8 / 255,)
