"""Whole numbers from outside: seeds, and variables that launchers set."""

import pytest

from seaanchor.config.schema import RunConfig
from seaanchor.config.validation import check
from seaanchor.data.emoji_scenes import write_scenes
from seaanchor.data.reading import check_workers
from seaanchor.distributed.launch import join_processes
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.protocol import Protocol
from seaanchor.training.step import step_seed
from seaanchor.utils.numbers import SEEDS, check_seed, variable


@pytest.mark.parametrize("seed", [-1, SEEDS, 2**63, 2**70])
def test_seeds_that_no_generator_takes(seed, tmp_path):
    for make in (
        lambda: check(RunConfig(seed=seed)),
        lambda: Protocol((), seed=seed),
        lambda: AttackPlan("pgd", "linf", (0.1,), 1, seed),
        lambda: write_scenes(tmp_path / "scenes", 1, 1, 32, seed),
    ):
        with pytest.raises(SeaAnchorError, match=f"seed is {seed}"):
            make()


def test_the_largest_seed_fits_into_every_step():
    assert check_seed(SEEDS - 1) == SEEDS - 1
    assert step_seed(SEEDS - 1, 10**6, 4098) < 2**64


@pytest.mark.parametrize("text", ["x", "²", "-1", "0", "1.5", "1e400", "9" * 30])
def test_a_number_of_processes_that_is_none(text, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", text)
    with pytest.raises(SeaAnchorError, match="the variable WORLD_SIZE is"):
        join_processes("gloo")
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", text)
    with pytest.raises(SeaAnchorError, match="the variable LOCAL_WORLD_SIZE is"):
        check_workers(1)


def test_variables_that_are_there_and_not(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", " 1 ")
    assert variable("WORLD_SIZE", 4) == 1 and not join_processes("gloo")
    monkeypatch.setenv("WORLD_SIZE", "")
    assert variable("WORLD_SIZE", 4) == 4
