"""A log line, and the line on the terminal, hold what means something for the run, and nothing else."""

from dataclasses import replace

import pytest
import torch

from seaanchor.api import train_from_config as train
from seaanchor.config.assemble import method_of
from seaanchor.config.recipes import dpo, dpo_linear, fare, lore
from seaanchor.config.schema import AdapterConfig, AnchorConfig, PerturbationConfig
from seaanchor.training.loggers import StepRecord, measure
from seaanchor.training.progress import Clock, Progress
from seaanchor.training.run_folder import RunFolder
from seaanchor.types import Constraint

DRAWN = PerturbationConfig("typographic", variants=1, sizes=(0.25, 0.4))
ALWAYS = {"step", "lr", "adversarial_loss", "images_per_s", "seconds", "waiting", "images_seen"}
MOVED = {"clean_distance", "cosine", "spread"}
HELD = {"rho", "violation_rate"}
MULTIPLIED = {"multiplier", "multiplier_p10", "multiplier_p50", "multiplier_p90"}


@pytest.mark.parametrize(
    ("recipe", "changes", "keys", "shown"),
    [
        (lore(), {}, MOVED | HELD | MULTIPLIED, ("clean distance", "above ρ 0.1", "λ")),
        (fare(), {}, MOVED | HELD, ("clean distance",)),
        (dpo(), {"perturbation": DRAWN}, MOVED | {"kl"}, ("clean distance", "KL")),
        (dpo_linear(), {"perturbation": DRAWN}, {"kl", "orthogonality"}, ("KL", "‖WWᵀ − 1‖")),
        (
            dpo_linear(),
            {"perturbation": DRAWN, "anchor": AnchorConfig("lagrangian", space="distribution")},
            {"kl", "orthogonality"} | HELD | MULTIPLIED,
            ("KL", "‖WWᵀ − 1‖", "ρ", "λ"),
        ),
        (
            dpo_linear(),
            {"perturbation": DRAWN, "anchor": AnchorConfig(), "adapter": AdapterConfig("linear", orthogonality=0.0)},
            set(),
            (),
        ),
    ],
    ids=["lore", "fare", "dpo", "dpo-linear", "constrained map", "free map"],
)
def test_every_run_logs_what_it_is_held_to(tiny_run, capsys, recipe, changes, keys, shown):
    config = tiny_run(recipe, max_steps=1, **changes)
    train(replace(config, average="none"))
    (row,) = RunFolder(config.output).rows()
    assert row.keys() == ALWAYS | keys
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "img/s" in line]
    for name in ("clean distance", "KL", "‖WWᵀ − 1‖", "ρ", "λ"):
        assert (name in line) == any(name in words for words in shown), line


def test_the_numbers_are_those_of_the_record():
    config = replace(dpo_linear(), adapter=AdapterConfig("linear", orthogonality=0.5))
    record = StepRecord(
        torch.tensor([1.0, 3.0]),
        Constraint(torch.tensor([0.1, 0.3]), torch.tensor([0.0, 0.0])),
        None,
        torch.tensor([0.2]),
    )
    row = measure(record, torch.ones(2, 3), torch.ones(2, 3), config, method_of(config))
    assert row == pytest.approx({"adversarial_loss": 2.0, "kl": 0.2, "orthogonality": 0.4})


def test_spread_is_a_share_of_the_reference():
    config, apart = fare(), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    record = StepRecord(torch.ones(2), None, None)
    rows = [measure(record, now, apart, config, method_of(config)) for now in (5 * apart, apart + 1, torch.zeros(2, 2))]
    assert [row["spread"] for row in rows] == pytest.approx([1, 0.2, 0])  # (2, 1) and (1, 2): cosine 0.8
    assert "spread" not in measure(record, apart, torch.ones(2, 2), config, method_of(config))


def test_the_line_shows_how_far_and_how_long(capsys):
    Progress(10, 0, True).show({"step": 5, "adversarial_loss": 0.5, "kl": 0.01, "images_per_s": 30.0})
    assert capsys.readouterr().out.startswith("     5/10  loss 0.500  KL 0.010  30 img/s  0:0")
    Progress(10, 0, True).show({"step": 5, "adversarial_loss": 0.5, "images_per_s": 30.0, "waiting": 0.42})
    assert "30 img/s (42% of the time waiting for them)  0:0" in capsys.readouterr().out
    Progress(10, 0, False).show({})
    assert capsys.readouterr().out == ""


def test_the_clock_knows_how_long_the_step_waited(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("seaanchor.training.progress.time.monotonic", lambda: now[0])
    clock = Clock(100)
    with clock.waiting():
        now[0] += 1.0
    now[0] += 3.0
    with clock.paused():
        now[0] += 50.0
    clock.count(8)
    assert clock.read(2) == {"images_per_s": 4.0, "seconds": 4.0, "waiting": 0.25, "images_seen": 108}
    now[0] += 2.0
    assert clock.read(1) == {"images_per_s": 0.0, "seconds": 2.0, "waiting": 0.0, "images_seen": 108}
    unknown = Clock(None)
    unknown.count(8)
    assert "images_seen" not in unknown.read(1) and unknown.images == 0
