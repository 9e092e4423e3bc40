"""What can be reported on, what belongs together, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from seaanchor.errors import SeaAnchorError
from seaanchor.report.facts import versions
from seaanchor.report.sources import read_sources


def test_a_run_with_its_results(made, tmp_path):
    run = made.write_run(tmp_path / "lore", made.everything(), made.everything(dataset="other"))
    sources = read_sources([run])
    (entry,) = sources.entries
    assert entry.label == "lore" and [r.result.dataset for r in entry.results] == ["a [set]", "other"]
    assert (entry.run.step, entry.run.total, entry.run.finished) == (60, 60, True)


def test_an_unfinished_run_knows_how_far_it_is(made, tmp_path):
    run = made.write_run(tmp_path / "half", steps=40, finished=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "clean_dis')  # cut short by a kill
    (found,) = read_sources([run]).runs
    assert (found.step, found.total, found.finished) == (
        40,
        60,
        False,
    )  # of 3 passes over 800 photos, ended by max_steps
    free = made.write_run(
        tmp_path / "free", steps=40, finished=False, config=made.config.replace("max_steps: 60\n", "")
    )
    assert read_sources([free]).runs[0].total == 75
    gone = made.write_run(
        tmp_path / "gone",
        finished=False,
        config=made.config.replace("photos-mini/train", "/nowhere").replace("max_steps: 60\n", ""),
    )
    assert read_sources([gone]).runs[0].total is None


def test_results_that_lie_elsewhere_find_their_run(made, tmp_path):
    run, folder = made.write_run(tmp_path / "lore"), tmp_path / "evaluation"
    folder.mkdir()
    for name in ("export", "export-averaged"):
        (folder / f"{name}.json").write_text(
            json.dumps(made.everything(model=f"local-dir:{run / name}", pretrained=name))
        )
    (folder / "other.json").write_text(json.dumps({"not": "a result"}))
    entries = read_sources([run, folder]).entries
    assert [entry.label for entry in entries] == ["lore", "lore (averaged)"]
    assert all(entry.run is entries[0].run for entry in entries)


def test_a_run_folder_may_move(made, tmp_path):
    run = made.write_run(tmp_path / "lore", made.everything())
    moved = Path(shutil.move(run, tmp_path / "elsewhere"))
    (entry,) = read_sources([moved]).entries
    assert entry.label == "elsewhere" and len(entry.results) == 1


def test_the_untouched_model_is_the_reference_and_no_model_beside_it(made, tmp_path):
    untouched = made.everything(model="base", pretrained="base")
    files = {"base": untouched, "mine": made.everything(model="mine", pretrained="x", reference=untouched)}
    for name, data in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    assert [entry.label for entry in read_sources([tmp_path]).entries] == ["mine"]
    assert [entry.label for entry in read_sources([tmp_path / "base.json"]).entries] == ["base"]


def test_runs_of_one_name_are_told_apart(made, tmp_path):
    paths = [made.write_run(tmp_path / parent / "run") for parent in ("a", "b")]
    assert [entry.label for entry in read_sources(paths).entries] == ["run (a)", "run (b)"]
    assert len(read_sources([paths[0], paths[0]]).runs) == 1


def torn_result(folder):
    (folder / "a.json").write_text('{"format": 2, "dataset": "x"')
    return folder


def newer_result(folder):
    (folder / "a.json").write_text(json.dumps({"format": 5, "dataset": "x", "model": "m", "suites": {}}))
    return folder / "a.json"


def other_json(folder):
    (folder / "a.json").write_text("[1]")
    return folder / "a.json"


def empty_run(folder):
    (folder / "config.yaml").write_text("model: m\n")
    return folder


def torn_log(folder):
    (folder / "config.yaml").write_text("model: m\n")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    return folder


def torn_steering(folder):
    (folder / "config.yaml").write_text("model: m\n")
    (folder / "steering.json").write_text('{"rows": [')
    return folder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "nothing", "is missing"),
        (lambda f: f, "is no run folder and holds no results"),
        (torn_result, "cut short or damaged"),
        (newer_result, "has format 5"),
        (other_json, "is no result file"),
        (empty_run, "has logged nothing"),
        (torn_log, "line 2"),
        (torn_steering, "steering.json is cut short"),
    ],
)
def test_what_cannot_be_reported_on(make, message, tmp_path):
    with pytest.raises(SeaAnchorError, match=message):
        read_sources([make(tmp_path)])


def test_nothing_at_all():
    with pytest.raises(SeaAnchorError, match="nothing to report on"):
        read_sources([])


def test_results_of_different_versions_are_named(made, tmp_path):
    old = made.result(0.5, 0.3)
    new = made.everything(protocol=made.everything()["protocol"] | {"seaanchor": "9"})
    for name, data in {
        "old": old,
        "new": new,
        "newer": made.everything(model="n", protocol={"seaanchor": "10"}),
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    (warning,) = read_sources([tmp_path]).warnings
    for words in (
        "format 1, version unknown: old.json",
        "format 2, version 9: new.json",
        "format 2, version 10: newer.json",
    ):
        assert words in warning
    assert read_sources([tmp_path / "old.json"]).warnings == ()


def test_the_precision_that_a_run_was_computed_in_is_shown(made, tmp_path):
    run = made.write_run(tmp_path / "run")
    assert not any("updates in" in text for _, text in versions(read_sources([run])))
    computed = {"device": "cpu", "updates": "fp32", "attacks": "bf16"}
    (run / "env.json").write_text(json.dumps({"python": "3.11", "computed": computed}))
    assert ("training, run", "python 3.11, updates in fp32, attacks in bf16, on cpu") in versions(read_sources([run]))


@pytest.mark.parametrize(
    "file, text, said",
    [
        ("env.json", '{"cpus": "two"}', "cpus is 'two' and not int"),
        ("env.json", "[" * 3000, "nested too deeply"),
        ("env.json", '{"computed": {"updates": "bf16"}}', "attacks"),
        ("env.json", '{"computed": ["bf16"]}', "mapping"),
        ("metrics.jsonl", '{"step": 1, "seconds": []}\n{"step": 2}\n', r"line 1: seconds is '\[\]' and not float"),
        ("metrics.jsonl", '{"step": "1"}\n{"step": 2}\n', "line 1: it has no step"),
        ("config.yaml", "model: &a [*a]\n", "nested too deeply"),
        ("steering.json", '{"rows": [{"t": "0"}]}', "holds no curve"),
    ],
)
def test_files_of_a_run_with_wrong_types_or_depths(made, tmp_path, file, text, said):
    run = made.write_run(tmp_path / "run")
    (run / file).write_text(text)
    with pytest.raises(SeaAnchorError, match=rf"{file}[\s\S]*{said}"):
        read_sources([run])
