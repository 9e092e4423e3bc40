"""Attacked images of a real model: what the evaluation counted is what is shown."""

import base64
import io
import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from seaanchor.data.sources import open_images
from seaanchor.encoders.heads import build_head
from seaanchor.encoders.load import load_model
from seaanchor.encoders.weight_files import weights_digest
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.report import gallery_models
from seaanchor.report.gallery import galleries
from seaanchor.report.gallery_pictures import chosen
from seaanchor.report.page import write_report
from seaanchor.report.runs import PartSettings
from seaanchor.report.sources import read_sources

EPSILON = 2 / 255
HARDENED = Path(__file__).parents[2] / "models" / "seaanchor-tiny-fare"

pytestmark = pytest.mark.exhaustive  # models are loaded and attacked; the page itself is in test_page.py


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    """A run whose export is a variant of the embedded model, evaluated beside it on a few photos."""
    folder = made.write_run(tmp_path_factory.mktemp("runs") / "run")
    (folder / "export").rmdir()
    shutil.copytree(HARDENED, folder / "export")
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


@pytest.fixture(scope="module")
def shown(run):
    """The gallery of the run under its gradient attack."""
    (found,) = galleries(read_sources([run]).entries, 4)
    return found


@pytest.mark.exhaustive
def test_a_gradient_attack_stays_in_its_ball(shown):
    assert len(shown.pictures) == 4 and shown.attack.startswith("APGD-CE, 2 steps, ε = 2/255")
    for picture in shown.pictures:
        clean = pixels(picture.clean)
        for view in picture.views:
            assert 0 < np.abs(pixels(view.attacked) - clean).max() <= 255 * EPSILON + 1  # files hold whole values
            assert (view.before[0].name == picture.true) == view.right_before
            assert (view.after[0].kind == "true") == view.still_right
            assert sum(answer.share for answer in view.before) <= 1 + 1e-6
    assert any(not picture.views[1].still_right for picture in shown.pictures)


def test_the_untouched_model_stands_before_the_trained_one_on_the_same_images(shown, run):
    assert shown.models == ((None, "untouched"), (0, "run")) and shown.judge == "run" and not shown.notes
    assert all(picture.views[0].right_before for picture in shown.pictures)
    photos = open_images("photos-mini/test")
    for number, name in enumerate(("seaanchor-tiny", str(HARDENED))):
        model = load_model(name)
        head = build_head(model, photos.class_names, ("a photo of a {}.",))
        for picture in shown.pictures:
            clean_1CHW = torch.from_numpy(pixels(picture.clean)).permute(2, 0, 1)[None].float() / 255
            share_C = head(model.encoder.eval()(clean_1CHW)).softmax(-1)[0]
            best = picture.views[number].before[0]
            assert photos.class_names[int(share_C.argmax())] == best.name
            assert float(share_C.max()) == pytest.approx(best.share, abs=0.01)  # of pixels that a file rounded


def test_two_models_share_one_gallery_where_they_were_evaluated_on_the_same_images(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    both = galleries(read_sources([run, other]).entries, 1)
    assert [found.models for found in both] == [((None, "untouched"), (0, "run"), (1, "other"))]
    for file in (other / "evaluation").glob("*.json"):
        data = json.loads(file.read_text())
        data["protocol"]["images"] = "others"
        file.write_text(json.dumps(data))
    apart = galleries(read_sources([run, other]).entries, 1)
    assert [found.models[1:] for found in apart] == [((0, "run"),), ((1, "other"),)]


def test_a_run_against_drawn_words_shows_drawn_words(run):
    (entry,) = read_sources([run]).entries
    on_words = replace(entry.run.settings, perturbation=PartSettings("typographic"))
    entry = replace(entry, run=replace(entry.run, settings=on_words))
    (shown,) = galleries([entry], 2)
    assert shown.attack == "a wrong class word drawn on"
    for picture in shown.pictures:
        assert picture.drawn and picture.drawn != picture.true
        for view in picture.views:
            assert np.abs(pixels(view.attacked) - pixels(picture.clean)).max() > 50
            assert view.after[0].kind != "drawn" or view.after[0].name == picture.drawn
        assert (pixels(picture.views[0].attacked) == pixels(picture.views[1].attacked)).all()  # the same letters


def test_the_page_shows_them_twice_the_same(run, tmp_path):
    pages = [write_report([run], tmp_path / name / "page.html", gallery=1).read_text() for name in ("a", "b")]
    assert pages[0].replace("/a/", "/b/") == pages[1] and pages[0].count("data:image/png") == 1 + 2 * 2


def test_a_reference_that_is_gone_leaves_the_model_alone_and_a_note(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    for file in (copy / "evaluation").glob("*export*.json"):
        data = json.loads(file.read_text())
        data["reference"]["protocol"]["weights"] = "0"
        file.write_text(json.dumps(data))
    (shown,) = galleries(read_sources([copy]).entries, 1)
    assert shown.models == ((0, "copy"),) and len(shown.pictures) == 1
    assert shown.notes == (
        "No images of the untouched model: the model seaanchor-tiny has changed since it was evaluated.",
    )


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
    (shown,) = galleries(read_sources([copy]).entries, 2)
    expected = {"model": "is gone", "data": "/nowhere/photos", "weights": "has changed"}[gone]
    assert not shown.pictures and expected in " ".join(shown.notes)


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
        (found,) = galleries(read_sources([output]).entries, 4)
        assert found.models == ((0, "seaanchor-tiny"),)
        shown = [pixels(picture.clean) for picture in found.pictures]
        assert len(shown) == 4
        assert [bool((picture[:6] == 128).all()) for picture in shown] == [text is not None] * 4


def changed_results(folder: Path, **changes) -> Path:
    """A run folder whose results say something else."""
    for file in (folder / "evaluation").glob("*export*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.fixture
def nothing_loads(monkeypatch):
    def load(*arguments, **settings):
        raise AssertionError(f"{arguments} was loaded")

    monkeypatch.setattr(gallery_models, "load_model", load)
    monkeypatch.setattr(gallery_models, "load_start", load)


def test_weights_are_compared_before_they_are_loaded(run, tmp_path, nothing_loads):
    copy = shutil.copytree(run, tmp_path / "copy")
    (result,) = (json.loads(file.read_text()) for file in (run / "evaluation").glob("*export*.json"))
    assert result["files"] == weights_digest(copy / "export") and result["reference"]["files"] is None
    with next((copy / "export").glob("*.safetensors")).open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    (shown,) = galleries(read_sources([copy]).entries, 2)
    assert not shown.pictures and shown.notes[0].endswith("has changed since it was evaluated.")


@pytest.mark.parametrize("place", ["outside", "above", "linked", "a result alone"])
def test_only_what_lies_in_the_named_runs_is_loaded(run, tmp_path, nothing_loads, place):
    copy = shutil.copytree(run, tmp_path / "copy")
    named = copy
    if place == "outside":
        changed_results(copy, model=str(HARDENED))
    elif place == "above":
        changed_results(copy, model=f"{copy}/export/..")
    elif place == "linked":
        shutil.move(copy / "export", tmp_path / "export")
        (copy / "export").symlink_to(tmp_path / "export")
    else:
        (named,) = (copy / "evaluation").glob("*export*.json")
    (shown,) = galleries(read_sources([named]).entries, 2)
    assert not shown.pictures and "only what lies in the runs that were named is loaded" in shown.notes[0]


@pytest.mark.parametrize(
    ("model", "pretrained"),
    [
        (str(HARDENED), None),
        (f"local-dir:{HARDENED}", None),
        ("ViT-B-32", str(HARDENED / "CARD.md")),
        ("timm:gcvit_tiny", None),
    ],
)
def test_an_untouched_model_that_lies_elsewhere_is_not_loaded(run, tmp_path, monkeypatch, model, pretrained):
    copy = shutil.copytree(run, tmp_path / "copy")
    (result,) = (json.loads(file.read_text()) for file in (copy / "evaluation").glob("*export*.json"))
    changed_results(copy, reference=result["reference"] | {"model": "some name"})
    settings = yaml.safe_load((copy / "config.yaml").read_text()) | {"model": model, "pretrained": pretrained}
    (copy / "config.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(gallery_models, "load_start", lambda *given: pytest.fail("it was loaded"))
    (entry,) = read_sources([copy]).entries
    with pytest.raises(SeaAnchorError, match=r"lies elsewhere|would be fetched"):
        gallery_models.reference_member(entry, entry.results[0], torch.device("cpu"), frozenset())


def test_a_report_asks_the_hub_for_nothing(run, tmp_path, monkeypatch):
    """Neither for the images that a result or a run names, nor for a model."""
    from huggingface_hub import constants

    monkeypatch.setattr(pytest.importorskip("datasets").config, "HF_HUB_OFFLINE", False)
    copy = changed_results(Path(shutil.copytree(run, tmp_path / "copy")), dataset="hf-data:nobody/nothing")
    settings = yaml.safe_load((copy / "config.yaml").read_text()) | {"train_data": "hf-data:nobody/nothing"}
    (copy / "config.yaml").write_text(yaml.safe_dump(settings | {"model": "ViT-B-32", "pretrained": "openai"}))
    shutil.rmtree(copy / "export")  # so that the number of steps is asked of the data
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    looked_up = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **more: looked_up.append(asked) or [])
    write_report([copy], tmp_path / "page.html")
    assert not looked_up and constants.HF_HUB_OFFLINE is False
