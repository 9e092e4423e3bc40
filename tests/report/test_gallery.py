"""Attacked images of a real model: what the evaluation counted is what is shown."""

import base64
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seaanchor.data.sources import open_images
from seaanchor.encoders.embedded import ZOO
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.report.gallery import gallery
from seaanchor.report.gallery_pictures import chosen
from seaanchor.report.page import write_report
from seaanchor.report.runs import PartSettings
from seaanchor.report.sources import read_sources

EPSILON = 2 / 255


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    """A run whose export is the embedded model, evaluated on a few photos."""
    folder = made.write_run(tmp_path_factory.mktemp("runs") / "run")
    (folder / "export").rmdir()
    shutil.copytree(ZOO / "seaanchor-tiny", folder / "export")
    plans = (AttackPlan("apgd-ce", "linf", (EPSILON,), 2),)
    typographic = TypographicPlan(sizes=(0.2, 0.3))
    evaluate(
        str(folder / "export"),
        ["photos-mini/test"],
        Protocol(plans, samples=16, suites=("typographic",), typographic=typographic),
        folder / "evaluation",
    )
    return folder


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))).astype(int)


def test_a_gradient_attack_stays_in_its_ball(run):
    (entry,) = read_sources([run]).entries
    shown = gallery(entry, 4)
    assert len(shown.pictures) == 4 and shown.attack.startswith("APGD-CE, 2 steps, ε = 2/255")
    for picture in shown.pictures:
        clean, attacked = pixels(picture.clean), pixels(picture.attacked)
        assert 0 < np.abs(attacked - clean).max() <= 255 * EPSILON + 1  # the file rounds to whole values
        assert picture.before[0].kind == "true" and picture.before[0].name == picture.true
        assert (picture.after[0].kind == "true") == picture.still_right
        assert sum(answer.share for answer in picture.before) <= 1 + 1e-6
    assert any(not picture.still_right for picture in shown.pictures)


def test_a_run_against_drawn_words_shows_drawn_words(run):
    (entry,) = read_sources([run]).entries
    on_words = replace(entry.run.settings, perturbation=PartSettings("typographic"))
    entry = replace(entry, run=replace(entry.run, settings=on_words))
    shown = gallery(entry, 2)
    assert shown.attack == "a wrong class word drawn on"
    for picture in shown.pictures:
        assert picture.drawn and picture.drawn != picture.true
        assert np.abs(pixels(picture.attacked) - pixels(picture.clean)).max() > 50
    fooled_by_the_word = [p for p in shown.pictures if p.after[0].kind == "drawn"]
    assert all(p.after[0].name == p.drawn for p in fooled_by_the_word)


def test_the_page_shows_them_twice_the_same(run, tmp_path):
    pages = [write_report([run], tmp_path / name, gallery=1).read_text() for name in ("a", "b")]
    assert pages[0] == pages[1] and pages[0].count("data:image/png") == 3


@pytest.mark.parametrize("gone", ["model", "data", "weights"])
def test_what_is_gone_leaves_a_note(run, gone, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    if gone == "model":
        shutil.rmtree(copy / "export")
        (copy / "export-averaged").mkdir()
    for file in (copy / "evaluation").glob("*export*.json"):
        data = json.loads(file.read_text())
        data["dataset"] = "/nowhere/photos" if gone == "data" else data["dataset"]
        data["protocol"]["weights"] = "0" if gone == "weights" else data["protocol"]["weights"]
        file.write_text(json.dumps(data))
    (entry, *_) = read_sources([copy]).entries
    shown = gallery(entry, 2)
    assert (
        not shown.pictures
        and {"model": "is gone", "data": "/nowhere/photos", "weights": "has changed"}[gone] in shown.note
    )


def test_both_kinds_are_chosen_where_there_are_both():
    right = [True] * 9 + [False] * 2
    assert [right[i] for i in chosen(right, 4)] == [True, True, False, False]
    assert len(chosen([True] * 5, 4)) == 4 and chosen([], 4) == []
    assert [right[i] for i in chosen(right, 8)].count(False) == 2


def test_pictures_are_those_that_the_model_was_evaluated_on(tmp_path):
    """Also where an option, and not the model's folder, says how they are resized."""
    photos = open_images("photos-mini/test")
    for number, (photo, label) in enumerate(zip(photos.paths, photos.labels, strict=True)):
        folder = tmp_path / "wide" / photos.class_names[label]
        if label < 3:
            folder.mkdir(parents=True, exist_ok=True)
            with photo.open("rb") as file, Image.open(file) as image:
                image.convert("RGB").resize((80, 64)).save(folder / f"{number}.png")
    plans = (AttackPlan("apgd-ce", "linf", (EPSILON,), 2),)
    for text in (None, "resize_mode=longest,fill=128"):
        output = tmp_path / str(text)
        evaluate("seaanchor-tiny", [str(tmp_path / "wide")], Protocol(plans, preprocess=text), output)
        (entry,) = read_sources([output]).entries
        shown = [pixels(picture.clean) for picture in gallery(entry, 4).pictures]
        assert len(shown) == 4
        assert [bool((picture[:6] == 128).all()) for picture in shown] == [text is not None] * 4
