"""What a sweep would cost, before it costs anything."""

import pytest

from seaanchor.config.recipes import penalty
from seaanchor.profiling.dry_run import dry_run
from seaanchor.sweeps import cost
from seaanchor.sweeps.arms import grid, run_arm
from seaanchor.sweeps.cost import sweep_cost


def test_points_that_cost_the_same_are_measured_once(tiny_run, tmp_path, monkeypatch, capsys):
    """Twelve images in batches of 3: 4 steps an epoch; two attack steps cost more than one, another weight does not."""
    base, asked = tiny_run(penalty()), []

    def counted(config, **more):
        asked.append(config)
        return dry_run(config, **more)

    monkeypatch.setattr(cost, "dry_run", counted)
    arms = grid(base, {"perturbation.num_steps": [1, 2], "anchor.weight": [0.1, 1.0], "epochs": [1, 3]})
    found = sweep_cost(arms, [0, 1], tmp_path / "sweep")
    assert len(asked) == 4 and len(found) == 8 and not (tmp_path / "sweep").exists()
    assert [(p.runs, p.done, p.steps) for p in found] == [(2, 0, 4 * arm.config.epochs) for arm in arms]
    for arm, point in ((arms[0], found[0]), (arms[-1], found[-1])):
        alone = dry_run(arm.config, say=False)
        assert point.flops == pytest.approx(alone.passes * alone.forward_flops * 3 * point.steps)
    one, two = (
        next(
            p.flops
            for p, a in zip(found, arms, strict=True)
            if a.config.perturbation.num_steps == n and a.config.epochs == 1
        )
        for n in (1, 2)
    )
    assert two > 1.2 * one
    said = capsys.readouterr().out
    assert "8 points x 2 seeds: 16 runs to train, 128 steps" in said and "nothing was written" in said


def test_runs_that_are_there_cost_nothing(tiny_run, tmp_path, capsys):
    arms = grid(tiny_run(penalty()), {"lr": [1e-3, 1e-4]})
    run_arm(arms[0], tmp_path / "sweep" / "seed-0")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*")}
    found = sweep_cost(arms, [0], tmp_path / "sweep")
    assert [(point.runs, point.done) for point in found] == [(0, 1), (1, 0)]
    assert "1 runs to train, 4 steps" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*")} == before


def test_the_command_says_the_cost_and_writes_nothing(run, tmp_path, clip_folder, image_folder):
    code, out, err = run(
        *("sweep", "penalty", "--vary", "anchor.weight=0.1,10", "--seeds", "0,1,2", "--data", image_folder),
        *("--suite", "clean,pgd", "--model", clip_folder, "--train-data", image_folder, "--max-steps", 2),
        *("--batch-size", 4, "--device", "cpu", "--output", tmp_path / "sweep", "--dry-run"),
    )
    assert code == 0, err
    assert "2 points x 3 seeds: 6 runs to train, 12 steps" in out and "one step each of 1 point was" in out
    assert not (tmp_path / "sweep").exists()
