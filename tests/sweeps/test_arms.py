"""Points of a sweep: what varies, where a run lies, and when it counts as done."""

from dataclasses import replace
from pathlib import Path

import pytest

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import dpo_tiny, fare, lore_tiny
from seaanchor.config.schema import RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.sweeps.arms import grid, is_done, one, run_arm
from seaanchor.utils.locks import LOCK


def test_a_grid_has_every_combination_in_order():
    arms = grid(lore_tiny(), {"anchor.rho": ["0.03", "0.1"], "lr": [1e-4, 1e-3, 1e-2]})
    assert [(a.config.anchor.rho, a.config.lr) for a in arms] == [
        (r, lr) for r in (0.03, 0.1) for lr in (1e-4, 1e-3, 1e-2)
    ]
    assert len({a.name for a in arms}) == 6
    assert arms[0].settings == {"anchor.rho": 0.03, "lr": 1e-4}
    assert {a.config.perturbation for a in arms} == {lore_tiny().perturbation}, "what does not vary stays"


def test_tuples_and_none_can_be_varied():
    assert one(dpo_tiny(), {"perturbation.sizes": "0.1+0.2"}).config.perturbation.sizes == (0.1, 0.2)
    assert one(lore_tiny(), {"anchor.max_multiplier": "none"}).config.anchor.max_multiplier is None
    assert one(lore_tiny(), {"anchor.on": "distribution"}).settings == {"anchor.space": "distribution"}  # its old name
    assert one(lore_tiny(), {"anchor.kind": "none"}).config.anchor.kind == "none"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"anchor.roh": 0.1}, "roh"),
        ({"ancor.rho": 0.1}, "ancor.rho"),
        ({"anchor.rho": "much"}, "much"),
        ({"lr.rho": 1}, "lr.rho"),
        ({"anchor.rho": -1}, "-1"),
    ],
)
def test_a_setting_that_does_not_exist_or_fit_is_named(settings, found):
    with pytest.raises(SeaAnchorError, match=found):
        one(RunConfig(), settings)


def test_a_value_twice_is_an_error():
    with pytest.raises(SeaAnchorError, match="twice"):
        grid(RunConfig(), {"lr": ["1e-4", "0.0001"]})


def test_a_run_counts_as_done_once_exported_and_only_with_its_settings(tiny_run):
    """The folder of another run is never taken for this one."""
    config = tiny_run(fare())
    assert not is_done(config)
    train(config)
    assert is_done(config)
    card = config.output / "export" / "open_clip_config.json"
    whole = card.read_text()
    card.write_text(whole + " ")  # of another export, as a kill leaves it in the middle of replacing one
    assert not is_done(config)
    card.write_text(whole)
    with pytest.raises(SeaAnchorError, match="lr"):
        is_done(replace(config, lr=1.0))


def test_a_finished_arm_is_not_trained_again(tmp_path: Path):
    arm = one(dpo_tiny(), {"max_steps": 1, "batch_size": 8, "average": "none"})
    run = run_arm(arm, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    assert (run / "export" / "open_clip_config.json").is_file()
    assert run_arm(arm, tmp_path) == run
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before
    (run / LOCK).touch()  # of a process that was killed when all was done
    run_arm(arm, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before
