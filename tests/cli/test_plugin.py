"""Parts in files of a user's own, from YAML and `--plugin` to the export."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from seaanchor import registry

PLUGINS = Path(__file__).parents[1] / "plugins"
SECTIONS = {
    "my_loss": {"objective": {"kind": "cosine_to_reference", "temperature": 2}},
    "my_anchor": {"anchor": {"kind": "l1", "strength": 0.5}},
    "my_perturbation": {"perturbation": {"kind": "gaussian", "sigma": 0.1}},
}


def recipe(folder: Path, clip_folder: Path, image_folder: Path, **settings) -> Path:
    plain = {
        "model": str(clip_folder),
        "train_data": str(image_folder),
        "perturbation": {"num_steps": 2},
        "batch_size": 3,
        "epochs": 2,
        "max_steps": 4,
        "save_every": 2,
        "log_every": 1,
        "lr": 1e-3,
        "device": "cpu",
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(plain | settings))
    return folder / "recipe.yaml"


@pytest.mark.parametrize("name", SECTIONS)
def test_a_part_of_ones_own_is_at_most_25_lines_and_knows_public_names_alone(name):
    source = (PLUGINS / f"{name}.py").read_text()
    assert len(source.splitlines()) <= 25
    assert "import seaanchor as sa" in source and "seaanchor." not in source and "from seaanchor" not in source


@pytest.mark.parametrize("name", SECTIONS)
def test_a_part_of_ones_own_trains_resumes_evaluates_and_exports(
    name, clip_folder, image_folder, tmp_path, run, monkeypatch
):
    file, output = recipe(tmp_path, clip_folder, image_folder, **SECTIONS[name]), tmp_path / "run"
    ((section, settings),) = SECTIONS[name].items()
    monkeypatch.chdir(PLUGINS)  # a module of the working directory
    code, _, errors = run("train", file, "--plugin", name, "--output", output)
    assert code == 0, errors
    saved = yaml.safe_load((output / "config.yaml").read_text())
    assert saved["plugins"] == [name] and saved[section]["kind"] == settings["kind"]
    assert saved[section]["options"] == {key: value for key, value in settings.items() if key != "kind"}
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]

    (output / "checkpoints" / "step-00000004.safetensors").unlink()
    code, _, errors = run("train", output / "config.yaml", "--output", output, "--resume", "auto")
    assert code == 0, errors
    again = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["adversarial_loss"] for row in again] == [row["adversarial_loss"] for row in rows]

    monkeypatch.chdir(tmp_path)
    arguments = ["--data", image_folder, "--suite", "clean,drift", "--device", "cpu"]
    code, out, errors = run("evaluate", "--model", output / "export", *arguments)
    assert code == 0, errors
    assert "apple" not in errors and out


def test_a_resumed_run_whose_own_part_has_other_settings_is_refused(clip_folder, image_folder, tmp_path, run):
    file = recipe(tmp_path, clip_folder, image_folder, **SECTIONS["my_loss"], plugins=[str(PLUGINS / "my_loss.py")])
    run("train", file, "--output", tmp_path / "run")
    flags = ["--objective.options.temperature", "3", "--resume", "auto"]
    code, _, errors = run("train", file, "--output", tmp_path / "run", *flags)
    assert code == 2 and "objective.options.temperature: 2.0 → 3.0" in errors


@pytest.mark.parametrize(
    ("settings", "flags", "words"),
    [
        ({"objective": {"kind": "cosine_to_reference", "temprature": 2}}, [], ["objective.temprature", "temperature"]),
        ({"objective": {"kind": "cosine_to_reference", "temperature": "hot"}}, [], ["objective.temperature is 'hot'"]),
        ({"objective": {"kind": "cosine_to_referenc"}}, [], ["did you mean cosine_to_reference?"]),
        ({"objective": {"kind": "tecoa", "temperature": 2}}, [], ["unknown setting objective.temperature"]),
        (
            {"objective": {"kind": "cosine_to_reference"}, "perturbation": {"kind": "none"}},
            [],
            ["objective cosine_to_reference with perturbation none is 0 from the start"],
        ),
        ({"perturbation": {"kind": "gaussian"}}, [], ["perturbation gaussian without sigma", "set perturbation.sigma"]),
        (
            {"perturbation": {"kind": "pgd+gaussian", "sigma": 0.1}},
            [],
            ["changes images after a gradient attack", "as the last link"],
        ),
        (
            {"adapter": {"kind": "linear"}, "objective": {"kind": "dpo"}, "perturbation": {"kind": "gaussian"}},
            ["--perturbation.options.sigma", "0.1"],
            ["adapter linear with perturbation gaussian would attack pixels"],
        ),
        ({}, ["--plugin", "no_such_plugin"], ["plugin no_such_plugin does not import"]),
        ({"plugins": "no_such_plugin.py"}, [], ["plugin no_such_plugin.py does not import"]),
    ],
)
def test_mistakes_with_parts_of_ones_own(settings, flags, words, clip_folder, image_folder, tmp_path, run):
    plugins = [str(PLUGINS / f"{name}.py") for name in SECTIONS]
    file = recipe(tmp_path, clip_folder, image_folder, **{"plugins": plugins} | settings)
    code, out, errors = run("train", file, "--output", tmp_path / "run", *flags)
    assert code == 2 and out == "" and errors.startswith("error: ") and "Traceback" not in errors
    for word in words:
        assert word in errors
    assert not (tmp_path / "run").exists()


TWO_SETTINGS = """
from dataclasses import dataclass
import seaanchor as sa

@sa.register("objective", "two_settings")
@dataclass(frozen=True)
class TwoSettings:
    scale: float = 1.0
    margin: float = 0.5
    needs = sa.Needs(hard_images=True)

    def attack_loss(self, embedding_BD, targets):
        return self.scale * (embedding_BD - targets.reference_BD - self.margin).square().sum(-1)

    def __call__(self, embeddings, targets):
        return self.attack_loss(embeddings.perturbed_BD, targets)
"""


def test_an_option_on_the_command_line_leaves_the_others_of_the_recipe(clip_folder, image_folder, tmp_path, run):
    (tmp_path / "two.py").write_text(TWO_SETTINGS)
    file = recipe(tmp_path, clip_folder, image_folder, objective={"kind": "two_settings", "scale": 2, "margin": 0.02})
    for name, flags in {
        "apart": ["--objective.options.scale", "1.5"],
        "joined": ["--objective.options.scale=1.5"],
    }.items():
        output = tmp_path / name
        code, _, errors = run("train", file, "--plugin", tmp_path / "two.py", *flags, "--output", output)
        assert code == 0, errors
        saved = yaml.safe_load((output / "config.yaml").read_text())
        assert saved["objective"]["options"] == {"scale": 1.5, "margin": 0.02} and saved["max_steps"] == 4


def test_a_recipe_with_a_part_of_ones_own_is_validated_with_its_plugin(run, clip_folder, image_folder, tmp_path):
    file = recipe(tmp_path, clip_folder, image_folder, objective={"kind": "pull", "temperature": 2})
    code, _, errors = run("recipes", "validate", file)
    assert code == 2 and "--plugin" in errors
    (tmp_path / "pull.py").write_text((PLUGINS / "my_loss.py").read_text().replace("cosine_to_reference", "pull"))
    code, printed, errors = run("recipes", "validate", file, "--plugin", tmp_path / "pull.py")
    assert code == 0 and "valid" in printed, errors


def test_a_perturbation_of_ones_own_that_draws_for_each_image_keeps_the_rules(tmp_path):
    import runpy

    import seaanchor as sa

    source = (PLUGINS / "my_perturbation.py").read_text()
    (tmp_path / "again.py").write_text(source.replace('"gaussian"', '"gaussian_again"'))
    gaussian = runpy.run_path(str(tmp_path / "again.py"))["Gaussian"]
    sa.testing.check_perturbation(gaussian(0.1))


def test_a_run_goes_on_where_its_plugin_was_moved(clip_folder, image_folder, tmp_path, run):
    (tmp_path / "before.py").write_text(TWO_SETTINGS.replace('"two_settings"', '"moved"'))
    file = recipe(tmp_path, clip_folder, image_folder, objective={"kind": "moved", "margin": 0.02}, max_steps=2)
    output = tmp_path / "run"
    code, _, errors = run("train", file, "--plugin", tmp_path / "before.py", "--output", output)
    assert code == 0, errors
    (tmp_path / "before.py").rename(tmp_path / "after.py")
    registry._plugins.clear()  # as in another process
    registry._registered["objective"].pop("moved")
    for name in [name for name in sys.modules if name.startswith("seaanchor_plugin_before")]:
        del sys.modules[name]
    code, _, errors = run("train", output / "config.yaml", "--output", output, "--resume", "auto")
    assert code == 2 and f"{output / 'config.yaml'}: plugin" in errors and "there is no file" in errors
    flags = ["--plugin", tmp_path / "after.py", "--output", output, "--resume", "auto"]
    code, out, errors = run("train", file, *flags)
    assert code == 0 and "done" in out, errors
    assert yaml.safe_load((output / "config.yaml").read_text())["plugins"] == [str(tmp_path / "after.py")]


def test_a_setting_of_ones_own_part_as_a_flag_of_its_section(run):
    code, _, errors = run("train", "fare", "--objective.scale", "2")
    assert code == 2 and "A setting of a part of your own is --objective.options.scale" in errors
    code, _, errors = run("evaluate", "--objective.scale", "2", "--model", "seaanchor-tiny", "--data", "photos-mini")
    assert code == 2 and "part of your own" not in errors
