"""Attacked files and the suites that read them, through the commands that users run."""

import json

import pytest
from PIL import Image

from seaanchor.cli.app import app
from seaanchor.data.sources import open_images
from seaanchor.data.typographic.write import write_typographic
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.result_files import read_result
from seaanchor.perturbations.typographic import Typographic


def call(*arguments):
    return app([str(a) for a in arguments], exit_on_error=False, print_error=False, result_action="return_value")


def test_attacked_files_are_read_back_as_they_are(image_folder, tmp_path):
    call(
        "attack",
        "typographic",
        "--data",
        image_folder,
        "--output",
        tmp_path / "lettered",
        "--image-size",
        64,
        "--sizes",
        0.2,
        0.4,
    )
    images = open_images(str(tmp_path / "lettered"))
    assert len(images.paths) == 12 and images.class_names == ("apple", "red fox", "zebra")
    assert all(
        label == chosen != rejected for label, (chosen, rejected) in zip(images.labels, images.pairs, strict=True)
    )
    boxes = [json.loads(line) for line in (tmp_path / "lettered" / "boxes.jsonl").read_text().splitlines()]
    assert {row["file"] for row in boxes} == {path.name for path in images.paths}
    assert all(6 <= row["size"] <= 26 and len(row["box"]) == 4 for row in boxes)
    with pytest.raises(SeaAnchorError, match="not empty"):
        write_typographic(
            open_images(str(image_folder)), Typographic(("apple", "red fox", "zebra")), 32, tmp_path / "lettered"
        )


def test_lettered_files_evaluate_without_another_word(image_folder, clip_folder, tmp_path):
    call(
        "attack",
        "typographic",
        "--data",
        image_folder,
        "--output",
        tmp_path / "lettered",
        "--image-size",
        32,
        "--sizes",
        0.25,
        0.4,
    )
    call(
        "evaluate",
        "--model",
        clip_folder,
        "--data",
        tmp_path / "lettered",
        "--suite",
        "clean,typographic",
        "--output",
        tmp_path / "results",
    )
    (file,) = (tmp_path / "results").iterdir()
    result = read_result(file)
    found = result.suites.typographic
    assert found.unreadable is None and found.attacked == result.typographic_images and result.clean is None


def test_data_commands(image_folder, tmp_path, capsys):
    (image_folder / "apple" / "broken.jpg").write_bytes(b"no image")
    call("data", "inspect", image_folder)
    said = capsys.readouterr().out
    assert said.startswith(f"12 images in {image_folder}\n") and "1 of 13 images" in said
    assert "(apple/broken.jpg: " in said
    assert "3 classes of 4 images" in said
    for name in ("a man runs", "a woman runs"):
        (tmp_path / "people" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "people" / name / "0.png")
    call("data", "pairs", "--data", tmp_path / "people", "--output", tmp_path / "pairs.jsonl", "--flip")
    assert [json.loads(line)["chosen"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()] == [
        "a woman runs",
        "a man runs",
    ]


def test_drift_and_reading_suites(clip_folder, image_folder, tmp_path):
    with pytest.raises(SeaAnchorError, match="not known"):
        call("evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "drift", "--output", tmp_path / "a")
    call(
        "evaluate",
        "--model",
        clip_folder,
        "--reference",
        clip_folder,
        "--data",
        image_folder,
        "--suite",
        "drift,reading",
        "--output",
        tmp_path / "b",
    )
    result = json.loads(next((tmp_path / "b").iterdir()).read_text())
    assert result["suites"]["reading"]["reading"]["n"] == 400
    with pytest.raises(SeaAnchorError, match="people in roles"):
        call("evaluate", "--model", clip_folder, "--data", image_folder, "--suite", "bias", "--output", tmp_path / "c")
