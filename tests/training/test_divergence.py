"""A run whose loss leaves its range by orders of magnitude says so: at once, at its end, and in the card of its export;
and what is not finite is null in its log."""

import json
import logging
import math
from random import Random

import pytest

from seaanchor.api import train_from_config as train
from seaanchor.config.recipes import fare
from seaanchor.report.model_card import origin_of
from seaanchor.training.divergence import Divergence, LossWatch, divergence, rise_text
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.summary import closing


def rows(*losses: float, start: float | None = None) -> list[dict]:
    first = [] if start is None else [{"step": 1, "start_loss": start}]
    return first + [{"step": 20 * (i + 1), "adversarial_loss": loss} for i, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("found", "log"),
    [
        (None, rows()),
        (None, [{"step": 5, "eval": {}}]),
        (None, rows(250.0, 3.0, start=3.0)),  # a hundredfold is within
        (None, rows(1e-6, 99.0)),  # what begins at nothing rises by chance
        (None, rows(8e13)),  # nothing to compare with
        (Divergence(20, 8e13, 0.7, 8e13), rows(8e13, start=0.7)),
        (Divergence(40, -301.0, -3.0, 2.0), rows(-3.0, -301.0, 2.0)),
    ],
)
def test_a_loss_leaves_its_range(found, log):
    assert divergence(log) == found


def test_a_watch_warns_once_and_not_again_after_a_resume(caplog):
    log = rows(0.5, 400.0, 8e13, start=0.7)
    watch = LossWatch()
    for row in log:
        watch.look(row)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "0.7 at the start and is 400 at step 40" in record.getMessage()
    caplog.clear()
    LossWatch(log).look(rows(0, 0, 0, 9e13)[-1])
    assert not caplog.records
    LossWatch(log[:2]).look(log[2])
    assert len(caplog.records) == 1


def test_a_run_that_diverges_is_not_exported_as_a_success(tiny_run, caplog):
    """Finite to the end: the first step is the untrained model's, though only the last one is logged."""
    config = tiny_run(fare(), lr=30.0, log_every=4, save_every=4)
    train(config)
    first, last = RunFolder(config.output).rows()
    assert first.keys() == {"step", "start_loss"} and first["step"] == 1 and last["adversarial_loss"] > 1e4
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "the run diverges" in warning and f"{last['adversarial_loss']:.3g} at step 4" in warning
    card = (config.output / "export" / "README.md").read_text()
    assert f"do not rely on these weights:** the loss was {first['start_loss']:.3g} at the start" in card
    assert "DIVERGED" in closing(config.output)[0]
    assert f"loss {first['start_loss']:.3f} to {last['adversarial_loss']:.3f}" in closing(config.output)[1]
    assert "at the start" in origin_of(str(config.output / "export")).diverged  # for further exports


def test_what_is_not_finite_is_null_in_the_log(tmp_path, caplog):
    folder = RunFolder(tmp_path)
    for step in (1, 2):
        folder.log({"step": step, "kl": math.inf, "adversarial_loss": 0.5})
    lines = [json.loads(line, parse_constant=pytest.fail) for line in folder.metrics.read_text().splitlines()]
    assert lines[0] == {"step": 1, "kl": None, "adversarial_loss": 0.5}
    assert folder.rows()[0] == {"step": 1, "adversarial_loss": 0.5}
    (record,) = caplog.records
    assert "kl is inf" not in record.getMessage() and "kl in " in record.getMessage()


def test_a_loss_that_rose_over_the_whole_run_is_told_and_noise_is_not(tmp_path):
    rising = [0.5 + 0.01 * i for i in range(40)]
    assert rise_text(rows(*rising, start=0.5)) == (
        "it rose: 0.508 on average in the first tenth of the log, 0.875 in the last"
    )
    assert rise_text(rows(*rising[::-1])) == "" and rise_text(rows()) == rise_text(rows(0.5)) == ""
    assert rise_text(rows(0.7, start=0.5)) == ""  # of two losses nobody can say
    rng, false_alarms = Random(0), 0
    for _ in range(200):
        noise = [1 + rng.gauss(0, 0.2) for _ in range(40)]
        false_alarms += bool(rise_text(rows(*noise)))
        assert rise_text(rows(*(loss + 0.04 * i for i, loss in enumerate(noise))))
    assert false_alarms <= 3
    folder = RunFolder(tmp_path)
    for row in rows(*rising):
        folder.log(row)
    assert closing(tmp_path)[-1].split(maxsplit=1)[0] == "loss" and "it rose: 0.515" in closing(tmp_path)[-1]


def test_an_encoder_that_collapsed_is_told(tmp_path, caplog):
    """Not one that came back, as after an early dip."""
    fine, dip = ({"adversarial_loss": 1.0, "spread": share} for share in (0.9, 0.01))
    folder, watch = RunFolder(tmp_path), LossWatch()
    for step, row in enumerate((dip, fine, dip, dip), 1):
        folder.log({"step": step, **row})
        watch.look({"step": step, **row})
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "collapses: at step 1 " in warning and "spread 0.01" in warning
    said = " ".join(closing(tmp_path))
    assert "DIVERGED" in said and "from step 3 on" in said and "0.01 of the reference's at the end" in said
    caplog.clear()
    LossWatch(folder.rows()).look({"step": 5, **dip})
    assert not caplog.records
    folder.log({"step": 5, **fine})
    assert not any("encoder collapsed:" in line for line in closing(tmp_path))


def test_a_bound_that_was_not_reached_is_told(tmp_path):
    folder = RunFolder(tmp_path)
    for step in range(1, 11):
        held = {"multiplier": step / 2, "violation_rate": 0.9 if step > 8 else 0.1, "rho": 0.1}
        folder.log({"step": step, "adversarial_loss": 1.0, **held})
    assert closing(tmp_path)[-1].split(maxsplit=1) == [
        "bound",
        "ρ was not reached: 90% of the images were above it at the end, with λ at 5.0. Take more steps, a lower --lr "
        "or a larger --anchor.rho",
    ]
    folder.log({"step": 11, "adversarial_loss": 1.0, "multiplier": 5.0, "violation_rate": 0.05, "rho": 0.1})
    assert not any("was not reached" in line for line in closing(tmp_path))
    folder.metrics.unlink()
    folder.log({"step": 1, "adversarial_loss": 1.0, "violation_rate": 0.9, "rho": 0.1})  # no constraint is asked for
    assert not any("was not reached" in line for line in closing(tmp_path))
