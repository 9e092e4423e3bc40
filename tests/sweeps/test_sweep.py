"""A small sweep for real, from the command line: trained, killed nowhere, evaluated, drawn; and what is refused."""

import csv
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from seaanchor.cli.evaluate import EvaluationOptions, chosen_suites, protocol_of
from seaanchor.cli.sweep import default_axes, parse_seeds
from seaanchor.errors import SeaAnchorError
from seaanchor.sweeps.sweep import parse_vary, read_points


def call(monkeypatch, *arguments: str, code: int = 0) -> None:
    """The command line in this process, which returns where all is well."""
    import sys

    from seaanchor.cli.app import main

    monkeypatch.setattr(sys, "argv", ["seaanchor", *arguments])
    if code == 0:
        main()
        return
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code


def test_a_sweep_trains_every_point_and_draws_their_front(
    tmp_path: Path, clip_folder: Path, image_folder: Path, monkeypatch, capsys
):
    arguments = (
        "sweep",
        "penalty",
        "--vary",
        "anchor.weight=0.1,10",
        "--seeds",
        "0,1",
        "--data",
        str(image_folder),
        "--suite",
        "clean,pgd,drift",
        "--epsilon",
        "2/255",
        "--model",
        str(clip_folder),
        "--train-data",
        str(image_folder),
        "--max-steps",
        "2",
        "--batch-size",
        "4",
        "--perturbation.num-steps",
        "1",
        "--num-steps",
        "10",
        "--output",
        str(tmp_path / "sweep"),
        "--device",
        "cpu",
        "--x",
        "drift.distance.mean",
        "--y",
        "clean",
    )
    call(monkeypatch, *arguments)
    said = capsys.readouterr().out
    assert "front:" in said and "smallest and largest of 2 seeds" in said
    assert (
        f"show them on one page: seaanchor report {tmp_path / 'sweep' / 'evaluation'} --allow {tmp_path / 'sweep'}"
        in said
    )
    rows = list(csv.DictReader((tmp_path / "sweep" / "numbers.csv").open()))
    assert {row["arm"] for row in rows} == {"anchor.weight=0.1", "anchor.weight=10.0"} and {
        row["seed"] for row in rows
    } == {"0", "1"}
    assert {"clean", "pgd 2/255", "drift.distance.mean"} <= {row["measure"] for row in rows}
    (front,) = (tmp_path / "sweep").glob("*/front.svg")
    assert ET.fromstring(front.read_text()).tag.endswith("svg")
    exports = {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").rglob("export/*")}
    assert len(exports) >= 8
    call(monkeypatch, *arguments)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").rglob("export/*")} == exports, (
        "what is done is not done again"
    )


@pytest.mark.parametrize("item", ["anchor.rho", "anchor.rho=", "anchor.rho=,"])
def test_a_setting_without_values_is_named(item):
    with pytest.raises(SeaAnchorError, match=r"anchor\.rho"):
        parse_vary([item])


def test_a_setting_twice_is_an_error():
    with pytest.raises(SeaAnchorError, match="twice"):
        parse_vary(["lr=1", "lr=2"])


def test_points_are_read_from_yaml(tmp_path: Path):
    file = tmp_path / "points.yaml"
    file.write_text("- {anchor.rho: 0.1, lr: 1.0e-4}\n- {anchor.rho: 0.2}\n")
    assert read_points(file) == [{"anchor.rho": 0.1, "lr": 1e-4}, {"anchor.rho": 0.2}]
    for text in ("rho: 1\n", "- 3\n", "", "[: {"):
        file.write_text(text)
        with pytest.raises(SeaAnchorError, match=r"points\.yaml"):
            read_points(file)


def test_the_second_axis_follows_from_the_suites(monkeypatch, capsys):
    """And where they give none, that is said before anything is read."""
    for suites, axis in (("clean,pgd", "pgd 2/255"), ("clean,typographic", "typographic.attacked")):
        plans = protocol_of(EvaluationOptions(suite=suites, epsilon="1/255,2/255"))
        assert default_axes(chosen_suites(suites), plans) == ("clean", axis)
    assert default_axes(["clean", "drift"], protocol_of(EvaluationOptions(suite="clean,drift")))[1].startswith("drift.")
    call(monkeypatch, "sweep", "fare-tiny", "--vary", "lr=1e-4", "--data", "nowhere", "--suite", "clean", code=2)
    said = capsys.readouterr().err
    assert "--suite clean names no measure for the front's second axis" in said and "--y" in said


def test_seeds():
    assert parse_seeds("0,2") == (0, 2)
    for text in ("a", "1,1", ""):
        with pytest.raises(SeaAnchorError, match="--seeds"):
            parse_seeds(text)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--y", "apgd 2/255"), "apgd 2/255"),
        (("--x", "drift.cosine"), "drift.cosine"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_trains(
    tmp_path: Path, image_folder: Path, monkeypatch, capsys, changes, found
):
    arguments = {"--data": str(image_folder), "--suite": "clean,pgd", "--y": "pgd 2/255", "--x": "clean"} | {
        changes[0]: changes[1]
    }
    flat = [part for pair in arguments.items() for part in pair]
    call(
        monkeypatch, "sweep", "fare-quick", "--vary", "lr=1e-4,1e-3", *flat, "--output", str(tmp_path / "sweep"), code=2
    )
    assert found in capsys.readouterr().err and not (tmp_path / "sweep").exists()


def test_captioned_images_are_swept_by_retrieval(
    tmp_path: Path, clip_folder: Path, image_folder: Path, monkeypatch, capsys
):
    import json
    import shutil

    (tmp_path / "captioned").mkdir()
    for i, file in enumerate(sorted(image_folder.rglob("*.jpg"))[:4]):
        shutil.copy(file, tmp_path / "captioned" / f"{i}.jpg")
    lines = [json.dumps({"image": f"{i}.jpg", "caption": f"number {i}"}) for i in range(4)]
    (tmp_path / "captioned" / "captions.jsonl").write_text("\n".join(lines))
    arguments = (
        "sweep",
        "penalty",
        "--vary",
        "anchor.weight=0.1",
        "--data",
        str(tmp_path / "captioned"),
        "--suite",
        "retrieval,embedding",
        "--num-steps",
        "1",
        "--model",
        str(clip_folder),
        "--train-data",
        str(image_folder),
        "--max-steps",
        "1",
        "--batch-size",
        "4",
        "--perturbation.num-steps",
        "1",
        "--output",
        str(tmp_path / "sweep"),
        "--device",
        "cpu",
    )
    call(monkeypatch, *arguments, "--x", "clean", code=2)
    said = capsys.readouterr().err
    assert (
        "'clean' will not be measured on" in said
        and "retrieval.text_to_image.recall@1" in said
        and not (tmp_path / "sweep").exists()
    )
    call(monkeypatch, *arguments)
    measured = {row["measure"] for row in csv.DictReader((tmp_path / "sweep" / "numbers.csv").open())}
    assert {
        "retrieval.image_to_text.recall@1",
        "retrieval.text_to_image.recall@5",
    } <= measured and "clean" not in measured
    assert any("distance.mean" in name for name in measured)
