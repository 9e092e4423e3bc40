"""One engine for every design: a small one for real, trained, mixed, measured, drawn and judged."""

import csv
import json
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from seaanchor.config.recipes import fare
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.run import Protocol
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import share, value
from studies import known_rows
from studies.declare import Claim, Contrast, Design, Line, Logged, Mixtures, Panel, Study
from studies.engine import run_design
from studies.pools import OWN
from studies.registry import STUDIES, reproduce
from studies.rows import specs_of
from studies.training_logs import read_log
from studies.workspace import Workspace


def small_design(tiny_run, dataset: str) -> Design:
    """Two arms, one that goes on from the first, and their mixtures with the reference."""
    slow, fast = (replace(tiny_run(fare()), lr=lr, max_steps=2) for lr in (1e-5, 1e-2))
    return Design(
        pool=OWN,
        arms={"slow": slow, "fast": fast, "slow, then fast": fast},
        specs=(EvaluationSpec((dataset,), Protocol((), suites=("drift",))),),
        columns=(share("clean %", "clean"), value("drift", "drift.distance.mean")),
        note="Two steps, {seeds}.",
        panels=(Panel("Fronts", "clean, %", "clean, %", (Line("all", ("untouched", "slow", "fast")),), y="clean %"),),
        picture="clean accuracies",
        claims=(Claim("fast is no worse", (Contrast("clean", "fast", "slow", "clean", dataset, wanted=0),)),),
        mixtures=Mixtures((0.5,)),
        starts_from={"slow, then fast": "slow"},
    )


def test_a_design_is_trained_measured_drawn_and_judged(tmp_path: Path, clip_folder: Path, image_folder: Path, tiny_run):
    design = small_design(tiny_run, str(image_folder))
    study, docs = Study("small", "A small study", "A claim.", 1, design, (0,)), tmp_path / "docs" / "results.md"
    docs.parent.mkdir()
    workspace = Workspace(tmp_path / "runs" / "small", (0,))
    reproduce(study, workspace, docs)
    arms = ["untouched", "slow", "fast", "slow, then fast", "slow α=0.5", "fast α=0.5", "slow, then fast α=0.5"]
    table = {row["arm"]: float(row["drift"]) for row in csv.DictReader((workspace.output / "table.csv").open())}
    assert list(table) == arms
    assert table["untouched"] == 0 and 0 < table["slow"] < table["fast α=0.5"] < table["fast"]
    text = docs.read_text()
    assert "Two steps, seed 0." in text and "**Fast is no worse: " in text and "![clean accuracies](figures/" in text
    assert ET.fromstring((docs.parent / "figures" / "small-figure.svg").read_text()).tag.endswith("svg")
    assert workspace.recipes["slow, then fast"]["model"] == "the export of: slow"
    chained = workspace.output / "seed-0" / "slow, then fast" / "config.yaml"
    assert str(workspace.output / "seed-0" / "slow" / "export") in chained.read_text()
    rows = json.loads((workspace.output / "table.json").read_text())
    assert {row["arm"] for row in rows} == set(arms) and "right" in rows[0]["numbers"]["clean"]
    measured = {row["arm"] for row in csv.DictReader((workspace.output / "numbers.csv").open())}
    assert measured == set(arms) - {"untouched"}


def test_rows_that_were_measured_before_are_taken_while_nothing_has_changed(
    tmp_path: Path, clip_folder: Path, image_folder: Path, tiny_run, monkeypatch
):
    moved = tmp_path / "the same images"
    shutil.copytree(image_folder, moved)
    one = replace(small_design(tiny_run, str(image_folder)), starts_from={})
    elsewhere = replace(small_design(tiny_run, str(moved)), starts_from={})
    design, again = (replace(d, arms={k: d.arms[k] for k in ("slow", "fast")}) for d in (one, elsewhere))
    named = (("apples", str(image_folder)), ("train", str(image_folder)))
    published = Workspace(tmp_path / "first", (0,), named, rows=tmp_path / "rows")
    run_design(design, published)
    kept = "".join(file.read_text() for file in (tmp_path / "rows").iterdir())
    assert str(tmp_path) not in kept and '"apples"' in kept
    assert {recipe["train_data"] for recipe in published.recipes.values()} == {"the photos of: --extra train"}

    def no_training(*args):
        raise AssertionError("it trains")

    monkeypatch.setattr("studies.pools.run_arm", no_training)
    workspace = Workspace(tmp_path / "second", (0,), rows=tmp_path / "rows")
    run_design(again, workspace)
    first, second = (tmp_path / name / "table.csv" for name in ("first", "second"))
    assert first.read_text() == second.read_text()
    assert set(workspace.recipes) == {"slow", "fast"}
    with pytest.raises(AssertionError, match="it trains"):
        run_design(replace(again, mixtures=Mixtures((0.25,))), workspace)
    other = replace(again, arms=again.arms | {"fast": replace(again.arms["fast"], lr=2e-2)})
    with pytest.raises(AssertionError, match="it trains"):
        run_design(other, workspace)
    next(file for file in moved.rglob("*.*") if file.is_file()).unlink()
    known_rows._images.cache_clear()  # one look a process
    with pytest.raises(AssertionError, match="it trains"):
        run_design(again, workspace)


def test_mixtures_alone_tell_the_precision_of_their_updates(tmp_path: Path, clip_folder, image_folder: Path, tiny_run):
    design = small_design(tiny_run, str(image_folder))
    mixed = Line("all", ("untouched", "slow α=0.5", "fast α=0.5"))
    alone = replace(
        design,
        arms={name: design.arms[name] for name in ("slow", "fast")},
        panels=(replace(design.panels[0], lines=(mixed,)),),
        claims=(),
        mixtures=Mixtures((0.5,), alone=True),
        starts_from={},
    )
    section = run_design(alone, Workspace(tmp_path / "runs", (0,), rows=tmp_path / "rows"))
    assert "Updates in fp32." in section.text


def test_a_number_of_the_log_is_kept_with_the_rows(
    tmp_path: Path, clip_folder, image_folder: Path, tiny_run, monkeypatch
):
    dataset = str(image_folder)
    watched = replace(tiny_run(fare()), lr=1e-2, max_steps=3, val_data=(dataset,), eval_every=1, eval_samples=8)
    lowest = Logged(f"eval|{dataset}|clean", 2, 8)
    design = replace(
        small_design(tiny_run, dataset), arms={"fast": watched, "slow": replace(watched, lr=1e-5)}, mixtures=None
    )
    design = replace(
        design,
        photos=dataset,
        starts_from={},
        of_log={"lowest": lowest},
        columns=(*design.columns, share("lowest %", "lowest")),
    )
    rows = tmp_path / "rows"
    run_design(design, Workspace(tmp_path / "first", (0,), rows=rows))
    steps, shares = read_log(tmp_path / "first" / "seed-0" / "fast" / "metrics.jsonl", lowest.key)
    logged = dict(zip(steps, shares, strict=True))
    assert {1, 2, 3} <= set(logged)
    least = min(share for step, share in logged.items() if step <= 2)
    table = {row["arm"]: row for row in csv.DictReader((tmp_path / "first" / "table.csv").open())}
    assert float(table["fast"]["lowest %"]) == pytest.approx(least)
    with pytest.raises(ValueError, match="not logged"):
        replace(lowest, steps=-1).of(tmp_path / "first" / "seed-0" / "fast")

    monkeypatch.setattr("studies.pools.run_arm", lambda *args: pytest.fail("it trains"))
    run_design(design, Workspace(tmp_path / "second", (0,), rows=rows))
    assert (tmp_path / "second" / "table.csv").read_text() == (tmp_path / "first" / "table.csv").read_text()
    with pytest.raises(pytest.fail.Exception, match="it trains"):
        run_design(
            replace(design, of_log={"lowest": replace(lowest, steps=3)}), Workspace(tmp_path / "third", (0,), rows=rows)
        )


def test_a_set_that_a_study_needs_is_asked_for(tmp_path: Path, image_folder: Path):
    design = STUDIES["real-timm"].design
    assert isinstance(design, Design)
    with pytest.raises(SeaAnchorError, match="no photos of the set imagenet-1k") as raised:
        specs_of(design, Workspace(tmp_path, (0,)))
    assert raised.value.change == "add --extra imagenet-1k=FOLDER"
    (spec,) = specs_of(design, Workspace(tmp_path, (0,), (("imagenet-1k", str(image_folder)),)))
    assert spec.sources == (str(image_folder),)
