"""Images that carry a word each are never called clean: in the result file, on the terminal, on the page, in a sweep's
numbers, on the slider."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from seaanchor.data.loader import subset
from seaanchor.data.sources import open_images
from seaanchor.data.typographic.write import write_typographic
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.result_files import encode
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.perturbations.typographic import Typographic
from seaanchor.report.page import write_report
from seaanchor.report.table import print_results
from seaanchor.steering.embeddings import see_words
from seaanchor.steering.sweep import sweep_typographic
from seaanchor.sweeps.numbers import numbers_of


@pytest.fixture(scope="module")
def lettered(tmp_path_factory) -> Path:
    """40 photos with a wrong word on each."""
    folder = tmp_path_factory.mktemp("set") / "lettered"
    images = subset(open_images("photos-mini/test"), 40, 0)
    write_typographic(images, Typographic(images.class_names, sizes=(0.2, 0.35), variants=1), 64, folder)
    return folder


@pytest.fixture(scope="module")
def result(lettered, tmp_path_factory):
    protocol = Protocol((AttackPlan("pgd", "linf", (1 / 255,), 2),), suites=("typographic",))
    (found,) = evaluate("seaanchor-tiny", [str(lettered)], protocol, tmp_path_factory.mktemp("out"))
    return found


def test_the_result_has_no_clean_accuracy(result):
    assert result.clean is None and result.typographic_images.n == 40
    assert result.typographic_images.accuracy == result.metrics["acc1"] == result.suites.typographic.attacked.accuracy
    assert set(numbers_of(result)) == {
        "lettered",
        "pgd 1/255",
        "typographic.attacked",
        "typographic.attack_word",
        "typographic.two_way",
    }


def test_neither_terminal_nor_page_call_it_clean(result, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    print_results([result])
    said = " ".join(capsys.readouterr().out.split())
    assert "n = 40" in said and "Images with their words, as they are" in said and "clean" not in said
    (tmp_path / "result.json").write_text(json.dumps(encode(result)))
    page = write_report([tmp_path / "result.json"], tmp_path / "page.html", gallery=0)
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text())))
    assert "typographic images" in {row["suite"] for row in rows} and "clean" not in {row["suite"] for row in rows}
    assert "Clean images" not in page.read_text() and ">40 images" in page.read_text()


def test_the_slider_reads_the_word_that_is_there(lettered, result):
    """At t = 0 the numbers are those of the untouched model, and there is no clean image to look at."""
    from seaanchor.adapters.linear_map import decompose

    model = load_model("seaanchor-tiny")
    with torch.no_grad():
        seen = see_words(model, open_images(str(lettered)), Protocol(()).typographic)
    (row,) = sweep_typographic(seen, decompose(torch.eye(model.encoder.dim)), [0.0])
    assert row.clean is None
    for name in ("attacked", "attack_word", "two_way"):
        assert row.shares[name].accuracy == pytest.approx(getattr(result.suites.typographic, name).accuracy, abs=1 / 40)
