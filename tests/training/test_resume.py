"""Opening a run folder: what may be written where, and what a resumed run goes on from."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from seaanchor import registry
from seaanchor.config.recipes import lore
from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.training.resume import check_output
from seaanchor.training.resume import open_run as open_run_of
from seaanchor.training.run_folder import RunFolder
from seaanchor.utils.environment import environment

IDENTITY = {"reference": "r", "images": "i", "global_batch_size": 128}


def open_run(config: RunConfig, computed=None, **other) -> tuple[RunFolder, dict | None]:
    return open_run_of(config, IDENTITY | other, computed=computed)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return replace(lore(), output=tmp_path / "run")


def resumed(config: RunConfig) -> RunConfig:
    return replace(config, resume="auto")


def with_checkpoints(config: RunConfig, *steps: int) -> RunFolder:
    folder, _ = open_run(config)
    for step in steps:
        folder.log({"step": step, "loss": 1 / step})
        folder.save(step, {"step": step, "identity": IDENTITY, "x": torch.full((3,), float(step))})
    return folder


def test_a_new_run_writes_settings_and_environment(config):
    folder, state = open_run(config)
    assert state is None and folder.rows() == []
    assert yaml.safe_load(folder.config.read_text())["anchor"]["rho"] == config.anchor.rho
    assert sorted(p.name for p in config.output.iterdir()) == ["config.yaml", "env.json", "metrics.jsonl"]
    assert environment()["versions"]["torch"]


def test_a_plugin_that_was_edited_between_is_told(config, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(registry, "_plugins", {})
    file, other = tmp_path / "edited_between.py", tmp_path / "other" / "edited_between.py"
    other.parent.mkdir()
    file.write_text("SCALE = 1\n")
    other.write_text("OTHER = 1\n")
    config = replace(config, plugins=tuple(registry.load_plugin(str(one)) for one in (file, other)))
    with_checkpoints(config, 1)
    open_run(resumed(config))
    assert not caplog.text
    file.write_text("SCALE = 2\n")
    open_run(resumed(config))
    assert "edited_between.py: not the plugin that this run was last started with. Steps after 1" in caplog.text
    caplog.clear()
    open_run(resumed(config))
    assert not caplog.text


def test_another_precision_after_a_resume_is_told(config, caplog):
    """A processor without fast bf16 arithmetic computes in fp32 what the settings call bf16."""
    with_checkpoints(config, 1)
    fast = {"device": "cpu", "updates": "bf16", "attacks": "fp32"}
    open_run(resumed(config), computed=fast)
    assert json.loads((config.output / "env.json").read_text())["computed"] == fast
    open_run(resumed(config), computed=fast)
    assert not caplog.text
    open_run(resumed(config), computed=fast | {"updates": "fp32"})
    assert "steps after 1 are computed otherwise than those before (updates: bf16 → fp32)" in caplog.text
    for damaged in ("[]", "{", '{"computed": 3}'):
        caplog.clear()
        (config.output / "env.json").write_text(damaged)
        open_run(resumed(config), computed=fast)
        assert not caplog.text


def test_checking_writes_nothing(config):
    check_output(config)
    assert not config.output.exists()


def test_a_run_that_never_began_gives_way_to_another(config):
    """A mistake in a part of somebody's own ended it before its first step: the corrected command is not refused."""
    folder, _ = open_run(config)
    again = replace(config, lr=config.lr * 2)
    assert yaml.safe_load(open_run(again)[0].config.read_text())["lr"] == again.lr
    folder.log({"step": 1, "start_loss": 1.0})
    with pytest.raises(SeaAnchorError, match="already holds a run"):
        check_output(config)


@pytest.mark.parametrize("others", [["config.yaml"], ["config.yaml", "env.json", "thesis.tex"]])
def test_a_folder_with_files_of_somebodys_own_does_not_give_way(config, others):
    open_run(config)
    for path in config.output.iterdir():
        if path.name not in others:
            path.unlink()
    (config.output / others[-1]).touch()
    with pytest.raises(SeaAnchorError, match="already holds a run"):
        check_output(config)


def test_a_folder_in_use_is_refused(config):
    folder, _ = open_run(config)
    folder.log({"step": 1, "start_loss": 1.0})
    with pytest.raises(SeaAnchorError, match=r"already holds a run[\s\S]*--resume auto"):
        open_run(config)


def test_a_folder_of_something_else_is_refused_and_untouched(config):
    config.output.mkdir()
    (config.output / "thesis.tex").write_text("mine")
    for attempt in (config, resumed(config)):
        with pytest.raises(SeaAnchorError, match="not empty and holds no run"):
            open_run(attempt)
    assert [p.name for p in config.output.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_folder(config):
    config.output.write_text("")
    with pytest.raises(SeaAnchorError, match="is a file"):
        open_run(config)


def test_an_empty_folder_and_the_leavings_of_a_killed_start_are_fine(config):
    config.output.mkdir()
    (config.output / ".config.yaml.77.partial").write_text("half")
    folder, _ = open_run(config)
    assert folder.config.exists() and not (config.output / ".config.yaml.77.partial").exists()


def test_resuming_names_the_settings_that_changed(config):
    open_run(config)
    changed = replace(config, lr=3e-5, anchor=replace(config.anchor, rho=0.2), resume="auto")
    with pytest.raises(SeaAnchorError, match=r"anchor\.rho: 0\.1 → 0\.2; lr: 1e-05 → 3e-05"):
        open_run(changed)


def test_what_may_change_on_resuming(config):
    open_run(config)
    free = replace(config, workers=3, log_every=1, save_every=5, device="cpu", report_to="none", resume="auto")
    folder, checkpoint = open_run(free)
    assert folder.root == config.output and checkpoint is None


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "processes", "change"),
    [
        (128, 1, 1, None),
        (32, 1, 4, None),
        (32, 4, 1, None),
        (16, 4, 2, None),
        (32, 1, 2, "set --batch-size 64 or --grad-accumulation 2"),
        (48, 1, 2, "set --batch-size 64$"),
        (48, 1, 3, "so that their product times the processes is 128"),
    ],
)
def test_an_update_keeps_its_number_of_images(config, batch_size, accumulation, processes, change):
    """On however many processes; else nothing is written, and the error names what would fit."""
    with_checkpoints(config, 2)
    before = (config.output / "config.yaml").read_text()
    now = replace(resumed(config), batch_size=batch_size, grad_accumulation=accumulation)
    identity = IDENTITY | {"global_batch_size": batch_size * accumulation * processes}
    if change is None:
        assert open_run_of(now, identity, processes)[1]["step"] == 2
        return
    with pytest.raises(
        SeaAnchorError,
        match=rf"sees 128 images, but here {identity['global_batch_size']}: {batch_size} at once x {processes}",
    ) as error:
        open_run_of(now, identity, processes)
    assert re.search(change, error.value.change)
    assert (config.output / "config.yaml").read_text() == before


def test_a_run_of_the_first_version_goes_on(config):
    """Its checkpoints count processes, not images."""
    folder, _ = open_run(config)
    folder.save(2, {"step": 2, "identity": {"reference": "r", "images": "i", "processes": 2}})
    assert open_run(resumed(config), global_batch_size=256)[1]["step"] == 2
    with pytest.raises(SeaAnchorError, match="sees 256 images, but here 128"):
        open_run(resumed(config))


def test_a_run_whose_checkpoints_have_the_old_name_of_the_batch_size_goes_on(config):
    folder, _ = open_run(config)
    folder.save(2, {"step": 2, "identity": {"reference": "r", "images": "i", "together": 256}})
    assert open_run(resumed(config), global_batch_size=256)[1]["step"] == 2
    with pytest.raises(SeaAnchorError, match="sees 256 images, but here 128"):
        open_run(resumed(config))


def test_other_weights_or_images_are_refused(config):
    with_checkpoints(config, 2)
    with pytest.raises(SeaAnchorError, match="started with other reference and images"):
        open_run(resumed(config), reference="other", images="other")


def test_resuming_where_nothing_was_is_a_new_run(config):
    assert open_run(resumed(config))[1] is None


def test_resuming_before_the_first_checkpoint_starts_again(config):
    folder, _ = open_run(config)
    folder.log({"step": 3})
    folder, state = open_run(resumed(config))
    assert state is None and folder.rows() == []


def test_a_setting_added_since_does_not_keep_a_run_from_going_on(config):
    folder, _ = open_run(config)
    settings = yaml.safe_load(folder.config.read_text())
    del settings["grad_clip"]
    folder.config.write_text(yaml.safe_dump(settings))
    open_run(resumed(config))
    assert "grad_clip" in yaml.safe_load(folder.config.read_text())


def test_goes_on_from_the_newest_checkpoint_and_forgets_later_lines(config):
    folder = with_checkpoints(config, 2, 4)
    folder.log({"step": 5})
    with folder.metrics.open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    folder, state = open_run(resumed(config))
    assert state["step"] == 4 and [row["step"] for row in folder.rows()] == [2, 4]
    folder.log({"step": 5})
    assert [row["step"] for row in folder.rows()] == [2, 4, 5]


def test_a_torn_checkpoint_is_passed_over_and_put_aside(config, capsys):
    folder = with_checkpoints(config, 2, 4)
    newest = folder.checkpoints()[-1]
    newest.write_bytes(newest.read_bytes()[:-20])
    folder, state = open_run(resumed(config))
    assert state["step"] == 2 and "does not hold a checkpoint" in capsys.readouterr().out
    assert [p.name for p in folder.checkpoints()] == ["step-00000002.safetensors"]
    assert newest.with_suffix(".torn").exists()  # nothing of the user's is deleted
    folder.save(3, {"step": 3, "identity": IDENTITY})
    folder.save(4, {"step": 4, "identity": IDENTITY})
    assert folder.latest()["step"] == 4


def test_a_run_saved_under_an_old_name_of_a_setting_goes_on(config):
    config = replace(config, anchor=AnchorConfig("lagrangian", space="distribution"))
    folder, _ = open_run(config)
    folder.config.write_text(folder.config.read_text().replace("  space: distribution", "  'on': distribution"))
    check_output(replace(config, resume="auto"))
    with pytest.raises(SeaAnchorError, match=r"anchor\.space: distribution → embedding"):
        check_output(replace(config, anchor=AnchorConfig("lagrangian"), resume="auto"))


def flip(file: Path, seed: int) -> None:
    """Change one bit of a file."""
    content = bytearray(file.read_bytes())
    bit = random.Random(seed).randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_costs_the_newest_checkpoint_and_two_stop_the_run(config, seed):
    folder = with_checkpoints(config, 2, 4)
    older, newest = folder.checkpoints()
    flip(newest, seed)
    assert folder.latest()["step"] == 2
    flip(older, seed)
    with pytest.raises(SeaAnchorError, match=r"none of the 2 checkpoints .* is whole"):
        open_run(resumed(config))
    assert folder.checkpoints() == [older, newest] and [row["step"] for row in folder.rows()] == [2, 4]  # untouched


def test_what_a_killed_export_left_is_cleared_away_and_what_an_evaluation_goes_on_with_is_not(config):
    with_checkpoints(config, 2)
    for name in (".export.partial", "evaluation/.x.partial"):
        (config.output / name).mkdir(parents=True)
        (config.output / name / "model.safetensors").write_text("half")
    open_run(resumed(config))
    assert not (config.output / ".export.partial").exists()
    assert (config.output / "evaluation" / ".x.partial" / "model.safetensors").exists()
