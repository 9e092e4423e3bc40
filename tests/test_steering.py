"""The slider and the attacked files, through the commands that users run."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from seaanchor.attack import write_typographic
from seaanchor.cli import app
from seaanchor.config import PerturbationConfig
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.perturbations.typographic import Typographic
from seaanchor.recipes import dpo_linear, gender_flip
from seaanchor.steering import export_at, steering_curve
from seaanchor.train import train

DRAWN = PerturbationConfig("typographic", variants=2, sizes=(0.25, 0.4))


def call(*arguments):
    return app([str(a) for a in arguments], exit_on_error=False, print_error=False, result_action="return_value")


@pytest.fixture
def run(tiny_run):
    return train(tiny_run(dpo_linear(), perturbation=DRAWN, epochs=10, lr=1e-2))


def test_t_0_is_the_untouched_model_and_t_1_the_export(run, clip_folder, tmp_path):
    base, trained = load_model(str(clip_folder)), load_model(str(run / "export"))
    pixels = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(load_model(str(export_at(run, 0.0, tmp_path / "0"))).encoder(pixels), base.encoder(pixels), atol=1e-6)
        assert torch.allclose(load_model(str(export_at(run, 1.0, tmp_path / "1"))).encoder(pixels), trained.encoder(pixels), atol=1e-6)
        assert (trained.encoder(pixels) - base.encoder(pixels)).abs().max() > 1e-3
    with pytest.raises(SeaAnchorError, match="not empty"):
        export_at(run, 0.5, tmp_path / "1")
    with pytest.raises(SeaAnchorError, match="out of range"):
        export_at(run, 1e6, tmp_path / "far")


def test_the_curve_at_t_0_is_the_untouched_models_accuracy(run, image_folder):
    rows = steering_curve(run, str(image_folder), (0.0, 1.0), sizes=(0.25, 0.4))
    from seaanchor.config import read_yaml
    from seaanchor.encoders.head import build_head

    base, images = load_model(read_yaml(run / "config.yaml")["model"]), open_images(str(image_folder))
    from seaanchor.data.folder import FolderDataset, SkipLog, batches

    batch = next(batches(FolderDataset(images, 32), 12, workers=0, order=None, skip_log=SkipLog(images)))
    with torch.no_grad():
        right = (build_head(base, images.class_names)(base.encoder(batch.pixels_BCHW)).argmax(-1) == batch.label_B).float().mean().item()
    assert rows[0]["clean"]["accuracy"] == pytest.approx(right)
    assert (run / "steering.png").stat().st_size > 10_000 and json.loads((run / "steering.json").read_text())["rows"] == rows


def test_gender_curve(tiny_run):
    config = replace(tiny_run(gender_flip()), train_data="emoji-people/train", perturbation=gender_flip().perturbation, batch_size=64, epochs=2)
    rows = steering_curve(train(config), "emoji-people/test", (0.0, 1.0))
    assert {"gender", "activity", "retrieval"} <= rows[0].keys() and rows[0]["gender"]["n"] > 100


def test_no_map_and_contradicting_flags(tiny_run, tmp_path):
    with pytest.raises(SeaAnchorError, match=r"linear_map\.safetensors"):
        export_at(tmp_path, 0.5, tmp_path / "out")
    with pytest.raises(SeaAnchorError, match="neither"):
        call("steer", tmp_path)
    with pytest.raises(SeaAnchorError, match="without --output"):
        call("steer", tmp_path, "--t", 0.5)


def test_attacked_files_are_read_back_as_they_are(image_folder, tmp_path):
    call("attack", "typographic", "--data", image_folder, "--output", tmp_path / "lettered", "--image-size", 64, "--sizes", 0.2, 0.4)
    images = open_images(str(tmp_path / "lettered"))
    assert len(images.paths) == 12 and images.class_names == ("apple", "red fox", "zebra")
    assert all(label == chosen != rejected for label, (chosen, rejected) in zip(images.labels, images.pairs, strict=True))
    boxes = [json.loads(line) for line in (tmp_path / "lettered" / "boxes.jsonl").read_text().splitlines()]
    assert {row["file"] for row in boxes} == {path.name for path in images.paths}
    assert all(6 <= row["size"] <= 26 and len(row["box"]) == 4 for row in boxes)
    with pytest.raises(SeaAnchorError, match="not empty"):
        write_typographic(open_images(str(image_folder)), Typographic(("apple", "red fox", "zebra")), 32, tmp_path / "lettered")


def test_lettered_files_evaluate_without_another_word(image_folder, clip_folder, tmp_path):
    call("attack", "typographic", "--data", image_folder, "--output", tmp_path / "lettered", "--image-size", 32, "--sizes", 0.25, 0.4)
    call("evaluate", "--model", clip_folder, "--data", tmp_path / "lettered", "--suite", "clean,typographic", "--output", tmp_path / "results")
    (file,) = (tmp_path / "results").iterdir()
    result = json.loads(file.read_text())
    typographic = result["suites"]["typographic"]
    assert "unreadable" not in typographic and typographic["attacked"]["accuracy"] == result["clean"]["accuracy"]


def test_data_commands(image_folder, tmp_path, capsys):
    (image_folder / "apple" / "broken.jpg").write_bytes(b"no image")
    call("data", "inspect", image_folder)
    said = capsys.readouterr().out
    assert "13 images" in said and "12 readable" in said and "3 classes of 4 to 5 images" in said
    for name in ("a man runs", "a woman runs"):
        (tmp_path / "people" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "people" / name / "0.png")
    call("data", "pairs", "--data", tmp_path / "people", "--output", tmp_path / "pairs.jsonl", "--flip")
    assert [json.loads(line)["chosen"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()] == ["a woman runs", "a man runs"]


def test_drift_and_reading_suites(clip_folder, image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="not known"):
        call("evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "drift", "--output", tmp_path / "a")
    call("evaluate", "--model", clip_folder, "--reference", clip_folder, "--data", image_folder, "--suite", "drift,reading", "--output", tmp_path / "b")
    result = json.loads(next((tmp_path / "b").iterdir()).read_text())
    assert result["suites"]["reading"]["reading"]["n"] == 400
    with pytest.raises(SeaAnchorError, match="people in roles"):
        call("evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "bias", "--output", tmp_path / "c")
