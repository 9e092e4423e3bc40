"""The next command, with real paths."""

import shlex

import pytest
import yaml
from PIL import Image

from seaanchor.encoders.own_module import SETTINGS
from seaanchor.evaluation.advice import evaluation_command, labelled_data, report_command, training_images_note


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"train_data": "photos-mini"}, "photos-mini/test"),
        ({"train_data": "photos/train"}, "photos/test"),
        ({"train_data": "photos/validation"}, "LABELLED_FOLDER"),
        ({"train_data": "FOLDER"}, "LABELLED_FOLDER"),
        ({"train_data": "FOLDER", "val_data": ["a b", "c"]}, "'a b' c"),
    ],
)
def test_data_to_evaluate_a_run_on(settings, data):
    assert labelled_data(settings) == data


def test_the_split_beside_the_training_images(tmp_path):
    (tmp_path / "train").mkdir()
    settings = {"train_data": str(tmp_path / "train")}
    assert labelled_data(settings) == "LABELLED_FOLDER"
    (tmp_path / "val").mkdir()
    assert labelled_data(settings) == str(tmp_path / "val")


def test_a_folder_of_the_name_of_an_embedded_set_is_no_embedded_set(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert labelled_data({"train_data": "photos"}) == "LABELLED_FOLDER"


def test_a_page_of_runs_and_of_other_results(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    run, other = tmp_path / "run" / "evaluation", tmp_path / "other"
    assert shlex.split(report_command([run])) == ["seaanchor", "report", str(tmp_path / "run")]
    assert shlex.split(report_command([other])) == ["seaanchor", "report", str(other)]
    both = ["seaanchor", "report", str(tmp_path / "run"), str(other), "--output", str(run / "report.html")]
    assert shlex.split(report_command([run, other])) == both


def test_models_that_lie_elsewhere_are_allowed_on_the_page(tmp_path):
    """Not what the report loads anyway: exports of the named runs, embedded models, names without a folder."""
    for folder in ("run/export", "start"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    (tmp_path / "tower.pt").touch()
    run, start, file = tmp_path / "run", tmp_path / "start", tmp_path / "tower.pt"
    names = [str(run / "export"), f"timm:local-dir:{start}", "seaanchor-tiny", "ViT-B-32", None, f"openai+{file}#model"]
    allowed = ["--allow", str(start), "--allow", str(file)]
    assert shlex.split(report_command([run / "evaluation"], names)) == ["seaanchor", "report", str(run), *allowed]
    both = ["seaanchor", "report", str(tmp_path), "--allow", str(run / "export"), *allowed]
    assert shlex.split(report_command([tmp_path], names)) == both


def test_labelled_training_images_are_named_where_there_are_no_others(image_folder, tmp_path):
    export = tmp_path / "run" / "export"
    export.mkdir(parents=True)
    config = tmp_path / "run" / "config.yaml"
    config.write_text(yaml.safe_dump({"train_data": str(image_folder)}))
    command = evaluation_command(tmp_path / "run")
    assert command.endswith(f"--data {image_folder}")
    assert "has not seen" in training_images_note(tmp_path / "run", command)
    (export / "config.json").write_text('{"pretrained_cfg": {}, "num_classes": 0}')  # no answers of its own
    command = evaluation_command(tmp_path / "run")
    assert command.endswith(f"--data LABELLED_FOLDER --head probe --train-data {image_folder}")
    assert training_images_note(tmp_path / "run", command) == ""
    (export / "config.json").unlink()
    for source in (image_folder / "apple", "photos-mini/train"):  # without labels; with a test split
        config.write_text(yaml.safe_dump({"train_data": str(source)}))
        command = evaluation_command(tmp_path / "run")
        assert str(source) not in command and not training_images_note(tmp_path / "run", command)


def test_a_run_on_patch_tokens_is_sent_to_masks(tmp_path):
    (tmp_path / "run" / "export").mkdir(parents=True)
    config, street = tmp_path / "run" / "config.yaml", tmp_path / "street"
    (street / "images" / "train").mkdir(parents=True)
    config.write_text(yaml.safe_dump({"train_data": str(street / "images" / "train"), "tokens": "patches"}))
    start = f"seaanchor evaluate --model {tmp_path / 'run' / 'export'}"
    assert evaluation_command(tmp_path / "run") == f"{start} --data FOLDER_WITH_MASKS --suite segmentation,drift"
    (street / "masks" / "train").mkdir(parents=True)
    Image.new("L", (4, 4)).save(street / "masks" / "train" / "a.png")
    command = evaluation_command(tmp_path / "run")
    assert command == f"{start} --data {street} --suite segmentation,drift"
    assert training_images_note(tmp_path / "run", command) == ""
    (tmp_path / "run" / "export" / SETTINGS).touch()
    assert f'evaluate(run.model, "{street}", suites=("segmentation", "drift"))' in evaluation_command(tmp_path / "run")
