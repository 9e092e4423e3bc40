"""The curve that `seaanchor steer --data` writes, as the report reads it."""

import json
from dataclasses import replace

import pytest
import torch

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import gender_flip
from seaanchor.config.schema import read_yaml
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.report.runs import read_run
from seaanchor.steering.curve import steering_curve


def test_the_curve_at_t_0_is_the_untouched_models_accuracy(run, image_folder):
    curve = steering_curve(run, str(image_folder), (0.0, 1.0), sizes=(0.25, 0.4))
    base, images = load_model(read_yaml(run / "config.yaml")["model"]), open_images(str(image_folder))
    batch = next(batches(ImageDataset(images, 32), 12, workers=0, order=None, skip_log=SkipLog(images)))
    with torch.no_grad():
        right = (
            (build_head(base, images.class_names)(base.encoder(batch.pixels_BCHW)).argmax(-1) == batch.label_B)
            .float()
            .mean()
            .item()
        )
    assert curve.rows[0].clean.accuracy == pytest.approx(right)
    stored = json.loads((run / "steering.json").read_text())
    assert list(stored["rows"][0]) == ["t", "clean", "attacked", "attack_word", "two_way", "reading"]
    assert list(stored["plan"]) == ["words", "fonts", "sizes", "seed"]
    assert (run / "steering.png").stat().st_size > 10_000 and read_run(run).steering == curve


def test_so_many_images_of_each_class(run, image_folder):
    curve = steering_curve(run, str(image_folder), (0.0,), sizes=(0.25, 0.4), samples=6)
    assert curve.rows[0].clean.n == curve.rows[0].attacked.n == 6
    with pytest.raises(SeaAnchorError, match="samples is 0"):
        steering_curve(run, str(image_folder), samples=0)
    with pytest.raises(SeaAnchorError, match="a set of people as a whole"):
        steering_curve(run, "emoji-people/test", samples=5)


def test_gender_curve(tiny_run, capsys):
    config = replace(
        tiny_run(gender_flip()),
        train_data="emoji-people/train",
        perturbation=gender_flip().perturbation,
        batch_size=64,
        epochs=2,
    )
    folder = train(config)
    curve = steering_curve(folder, "emoji-people/test", (0.0, 1.0))
    first = curve.rows[0]
    assert first.shares.keys() == {"gender", "activity"} and first.retrieval and first.gender.n > 100
    said = capsys.readouterr().out
    for words in (
        "gender",
        "activity",
        "called man",
        "MaxSkew@10, equal",
        "NDKL, equal",
        "MaxSkew@10, data",
        "NDKL, data",
        "smoke test of the method",
    ):
        assert words in said
    line = next(line for line in said.splitlines() if line.split()[:1] == ["0"])
    retrieval = first.retrieval
    numbers = [f"{first.shares[key].accuracy:.1%}" for key in ("gender", "activity")] + [f"{first.predicted_man:.1%}"]
    assert line.split()[1:] == numbers + [
        f"{retrieval[d][key]:.3f}" for d in ("uniform", "dataset") for key in ("max_skew_at_10", "ndkl")
    ]
    stored = json.loads((folder / "steering.json").read_text())
    assert "not a fairness claim" in stored["caveat"] and stored["plan"] is None
    assert [list(row) for row in stored["rows"]] == [["t", "gender", "activity", "predicted_man", "retrieval"]] * 2
    assert read_run(folder).steering == curve
