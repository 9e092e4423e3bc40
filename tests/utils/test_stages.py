"""Stages of long work, on a terminal and elsewhere."""

import io
import re
import sys

import pytest

from seaanchor.utils import stages
from seaanchor.utils.log import bars, log, progress
from seaanchor.utils.stages import stage, tick


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes a terminal of stdout; gives what is written to it from then on without its control codes."""

    def start():
        stream = Terminal()
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", stream)
        return lambda: re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())

    return start


def test_elsewhere_a_line_says_how_far_and_how_long_still(clock, capsys):
    with stage("attack", 200, "steps"):
        for _ in range(3):
            clock[0] += 20
            tick("steps", 25)
    assert capsys.readouterr().out == "  attack: 50 of 200 steps, 120 s left\n"  # at 40 s; the next at 70 s or later


def test_only_the_innermost_stage_moves_and_only_by_what_it_counts(clock, capsys):
    with stage("evaluation", 100, "images"), stage("attack", 10, "steps"):
        clock[0] += 31
        tick("images", 100)
        assert capsys.readouterr().out == ""
        tick("steps", 5)
        assert capsys.readouterr().out == "  attack: 5 of 10 steps, 31 s left\n"
    clock[0] += 100
    tick("images")
    assert capsys.readouterr().out == "" and stages._open == []


def test_a_stage_that_has_lines_of_its_own_is_silent_elsewhere(clock, capsys):
    with stage("training", 10, "batches", lines=False):
        clock[0] += 100
        tick("batches", 5)
    assert capsys.readouterr().out == ""


def test_a_terminal_shows_bars_below_the_lines(clock, terminal):
    shown = terminal()
    with stage("evaluation", 100, "images"):
        clock[0] += 10
        tick("images", 50)
        assert re.search(r"evaluation .* 50/100 images", shown())
        with stage("pgd, ε = 1/255", 10, "steps"):
            clock[0] += 1
            tick("steps", 4)
            assert re.search(r"pgd, ε = 1/255 .* 4/10\s+steps", shown())
            progress("     4/10  loss 1", last=False)
            log.info("a line")
            assert "     4/10  loss 1\n" in shown() and "a line\n" in shown()
            assert bars
    assert not bars and not stages._bars


def test_bars_end_where_the_work_fails(clock, terminal):
    terminal()
    with pytest.raises(ValueError, match="x"), stage("a", 2, "images"):
        raise ValueError("x")
    assert not bars and not stages._bars and not stages._open and isinstance(sys.stdout, Terminal)


def test_a_program_that_is_no_command_gets_no_bars(clock, terminal, monkeypatch):
    terminal()
    monkeypatch.setattr(log, "handlers", [])
    with stage("a", 2, "images"):
        assert not stages._bars


def test_of_other_ranks_there_are_no_bars(clock, terminal, monkeypatch):
    terminal()
    monkeypatch.setenv("RANK", "1")
    with stage("a", 2, "images"):
        assert not stages._bars


def test_attacks_count_their_steps_and_queries(monkeypatch):
    import torch

    from seaanchor.evaluation.attacks import AttackPlan, attack_survivors
    from seaanchor.types import Batch

    pytest.importorskip("pyautoattack")
    torch.manual_seed(0)
    batch = Batch(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), torch.arange(2))
    weight = torch.randn(3 * 8 * 8, 5)
    logits = lambda pixels: 100 * torch.eye(5)[batch.label_B][: len(pixels)] + 1e-3 * pixels.flatten(1) @ weight  # noqa: E731
    counted = {}
    monkeypatch.setattr(
        stages.Stage, "advance", lambda one, count: counted.__setitem__(one.title, counted.get(one.title, 0) + count)
    )
    for name, steps in (("pgd", 3), ("apgd-ce", 4), ("square", 5)):
        plan = AttackPlan(name, "linf", (1 / 255,), steps)
        attack_survivors(logits, batch, torch.ones(2, dtype=torch.bool), plan, 1 / 255)
    assert counted["pgd, ε = 1/255, 2 images"] == 4  # the last iterate is looked at, too
    assert counted["apgd-ce, ε = 1/255, 2 images"] == 4
    few = counted.pop("square, ε = 1/255, 2 images")
    plan = AttackPlan("square", "linf", (1 / 255,), 25)
    attack_survivors(logits, batch, torch.ones(2, dtype=torch.bool), plan, 1 / 255)
    assert counted["square, ε = 1/255, 2 images"] == few + 20
