"""The suite `segmentation` end to end: numbers against scikit-learn, intervals, heads, and what is refused."""

import contextlib
import json
import re
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

import seaanchor as sa
from seaanchor.config.recipes import lore
from seaanchor.data.emoji_scenes import write_scenes
from seaanchor.data.masks import open_segmented, read_mask
from seaanchor.encoders import segmentation_head
from seaanchor.encoders.load import load_model
from seaanchor.encoders.segmentation_head import FILE, read_segmentation_head
from seaanchor.evaluation.result_files import decode, encode, read_json

QUICK = ["--suite", "segmentation,embedding,drift", "--epsilon", "1/255,4/255", "--num-steps", 3, "--batch-size", 5]


@pytest.fixture(scope="module", autouse=True)
def short():
    """Heads need not be good here."""
    with mock.patch.object(segmentation_head, "STEPS", 100):
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Twelve scenes of 64 pixels to fit on, eight to test on."""
    folder = tmp_path_factory.mktemp("scenes") / "emoji"
    write_scenes(folder, 12, 8, 64)
    return folder


def read(folder: Path):
    found = [decode(read_json(file)) for file in folder.glob("*.json")]
    return next((result for result in found if result.reference is not None), found[0])


@pytest.fixture(scope="module")
def trained(scenes, clip_folder, tmp_path_factory):
    """A run of LORE on patch tokens, of three batches."""
    from dataclasses import replace

    from seaanchor.api import train_from_config

    recipe = lore(epsilon="4/255")
    output = tmp_path_factory.mktemp("run") / "run"
    attack = replace(recipe.perturbation, num_steps=2)
    changes = {"batch_size": 4, "epochs": 1, "lr": 3e-3, "device": "cpu", "tokens": "patches", "perturbation": attack}
    return train_from_config(
        replace(recipe, model=str(clip_folder), train_data=str(scenes / "images" / "train"), output=output, **changes)
    )


@pytest.fixture(scope="module")
def result(scenes, trained):
    """What the command finds for that run's export, beside its reference."""
    from seaanchor.cli import app

    output = trained / "evaluation"
    arguments = ["seaanchor", "evaluate", "--model", trained / "export", "--data", scenes, *QUICK]
    with mock.patch.object(sys, "argv", list(map(str, arguments))), contextlib.suppress(SystemExit):
        app.main()
    return read(output)


def test_a_run_is_evaluated_on_the_tokens_it_was_trained_on(result):
    assert result.protocol.tokens == "patches" and result.reference.protocol.tokens == "patches"
    assert result.task == "segmentation" and result.clean is None and not result.robust
    assert result.suites.drift.rho == 0.1 and result.suites.drift.distance.mean > 0
    assert result.reference.suites.drift.distance.max == 0
    assert result.metrics["miou"] == result.suites.segmentation.clean.miou
    assert result.protocol.segmentation_head == result.reference.protocol.segmentation_head
    assert not result.failed_checks and "segmentation: apgd-ce: epsilon 0 equals clean" in result.checks


@pytest.mark.parametrize("which", ["model", "reference"])
def test_clean_numbers_against_scikit_learn(result, scenes, trained, clip_folder, which):
    """Recomputed with the library's forward, the head's file and another definition of mean IoU."""
    head = read_segmentation_head(trained / "evaluation" / FILE)
    folder, score = (trained / "export", result) if which == "model" else (clip_folder, result.reference)
    images = open_segmented(scenes, split="test")
    encoder = load_model(str(folder), tokens="patches").encoder
    answers, labels = [], []
    for index, path in enumerate(images.paths):
        picture = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            cells = encoder(pixels) @ head.weight_CD.T + head.bias_C
        map_ = cells[0].T.reshape(1, 5, 2, 2)
        answers.append(torch.nn.Upsample((32, 32), mode="bilinear")(map_).argmax(1).flatten())
        labels.append(read_mask(images, index, 32).flatten())
    truth, said = torch.cat(labels).numpy(), torch.cat(answers).numpy()
    found = score.suites.segmentation.clean
    assert found.miou == pytest.approx(jaccard_score(truth, said, average="macro"), abs=2e-4)
    assert found.pixel_accuracy == pytest.approx((truth == said).mean(), abs=2e-4)
    assert found.n == 8 and found.low < found.miou < found.high
    assert score.constant_predictor == pytest.approx(jaccard_score(truth, 0 * truth, average="macro"))


def test_attacks_hurt_more_the_larger_they_are(result):
    for who in (result, result.reference):
        scores = {(a.attack, round(255 * a.epsilon)): a.score.pixel_accuracy for a in who.suites.segmentation.attacked}
        assert list(scores) == [("embedding", 1), ("embedding", 4), ("apgd-ce", 1), ("apgd-ce", 4)]
        clean = who.suites.segmentation.clean.pixel_accuracy
        assert clean >= scores["apgd-ce", 1] > scores["apgd-ce", 4]


def test_results_are_shown_beside_the_reference_with_paired_intervals(result, run, trained, tmp_path):
    from seaanchor.report.readers import measures

    rows = {m.group: m for m in measures(result) if m.label == "mean IoU"}
    assert len(rows) == 5
    change = rows["Segmentation, clean"].change
    both = result.suites.segmentation.clean, result.reference.suites.segmentation.clean
    assert change.value == pytest.approx(both[0].miou - both[1].miou, abs=1e-5) and change.low <= change.value
    code, _, err = run("report", trained, "--output", tmp_path / "report.html")
    assert code == 0, err
    assert "pixels&#39; cross-entropy" in (tmp_path / "report.html").read_text()


def test_files_are_read_without_loss(result, trained):
    for file in (trained / "evaluation").glob("*.json"):
        stored = json.loads(file.read_text())
        assert encode(decode(stored)) == stored


def test_a_head_from_a_file_gives_the_same_numbers(result, scenes, trained, run, tmp_path):
    head = trained / "evaluation" / FILE
    code, _, err = run(
        *("evaluate", "--model", trained / "export", "--data", scenes, *QUICK),
        *("--segmentation-head", head, "--output", tmp_path),
    )
    assert code == 0, err
    assert read(tmp_path).suites.segmentation == result.suites.segmentation


def test_from_python_with_images_in_memory(scenes, clip_folder):
    images = open_segmented(scenes, split="test")
    model = sa.load_model(str(clip_folder), tokens="patches")
    assert sa.evaluate(model, images, suites=["segmentation"]).suites.segmentation.clean.n == 8
    found = sa.evaluate(model, str(scenes), suites=["segmentation"], samples=4)
    assert found.suites.segmentation.clean.n == 4 and found.suites.segmentation.attacked == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "segmentation"], "one embedding an image.*patch tokens"),
        (
            ["--tokens", "patches", "--suite", "segmentation,apgd"],
            "apgd of patch tokens.*segmentation, embedding, drift",
        ),
        (["--tokens", "patches", "--suite", "clean"], "clean accuracy of patch tokens"),
        (["--tokens", "patches", "--suite", "segmentation,typographic"], "typographic of patch tokens"),
        (["--tokens", "patches", "--suite", "segmentation", "--train-data", "DATA/images"], "images and masks"),
        (["--tokens", "patches", "--suite", "segmentation", "--segmentation-head", "no-file"], "no segmentation head"),
        (["--tokens", "cls", "--suite", "segmentation"], "cls"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message, scenes, clip_folder, run):
    arguments = [str(part).replace("DATA", str(scenes)) for part in arguments]
    code, out, err = run("evaluate", "--model", clip_folder, "--data", scenes, *arguments)
    said = " ".join((out + err).split())
    assert code != 0 and re.search(message, said), said


def masks_changed(folder: Path, change) -> None:
    for file in (folder / "masks" / "test").iterdir():
        Image.fromarray(change(np.asarray(Image.open(file)))).save(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask[:-4], "64 × 60 pixels, and .* 64 × 64"),
        (lambda mask: mask + 7, "there are 5 classes"),
        (lambda mask: np.full_like(mask, 255), "no pixel of the masks"),
    ],
    ids=["another size", "labels out of range", "all void"],
)
def test_bad_masks_are_named(change, message, tmp_path, clip_folder, run):
    write_scenes(tmp_path / "set", 2, 2, 64)
    masks_changed(tmp_path / "set", change)
    suite = ("--tokens", "patches", "--suite", "segmentation")
    code, out, err = run("evaluate", "--model", clip_folder, "--data", tmp_path / "set", *suite)
    assert code != 0 and re.search(message, " ".join((out + err).split())), out + err


def test_images_without_masks(image_folder, clip_folder, run):
    suite = ("--tokens", "patches", "--suite", "segmentation")
    code, out, err = run("evaluate", "--model", clip_folder, "--data", image_folder, *suite)
    assert code != 0 and "images and masks" in " ".join((out + err).split())
    code, _, err = run(
        *("evaluate", "--model", clip_folder, "--data", image_folder / "zebra", "--tokens", "patches"),
        *("--suite", "embedding", "--epsilon", "1/255", "--num-steps", 2, "--output", image_folder.parent / "out"),
    )
    assert code == 0, err
    assert read(image_folder.parent / "out").suites.embedding.radii[0].n == 4
