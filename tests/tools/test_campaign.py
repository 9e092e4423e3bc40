"""The campaign: a small sample of it, and that it notices what it is for."""

import json
import random

import pytest

from tools.campaign.inputs import Kind, _count, _try, kinds
from tools.campaign.material import make
from tools.campaign.mutations import flipped, mutated
from tools.campaign.outcome import Options, Outcome, answer, command, table

SAMPLE = 12  # mutations of each kind of file


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Files that are made without training."""
    return make(tmp_path_factory.mktemp("campaign"), runs=False)


def test_a_sample_of_mutated_inputs(material):
    here = [kind for kind in kinds(material) if kind.home == material.data and kind.name != "preferences, CSV"]
    outcome, counts = Outcome("mutated inputs"), {"read": 0, "refused": 0, "crashed": 0}
    for kind in here:
        for number in range(SAMPLE):
            _try(kind, kind.home, number, Options(SAMPLE), outcome, counts)
    assert not outcome.failures and outcome.tried == SAMPLE * len(here) >= 150
    assert counts["read"] > 20 and counts["refused"] > 50, "some damage is none, and most of it is"


def test_a_crash_is_noticed_and_named(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    kind = Kind("a kind", tmp_path, ("a.json",), lambda home: 1 // 0)
    outcome, counts = Outcome("a section"), {"read": 0, "refused": 0, "crashed": 0}
    _try(kind, tmp_path, 3, Options(1), outcome, counts)
    _count(answer(lambda: None), "well", outcome, counts)
    assert counts == {"read": 1, "refused": 0, "crashed": 1}
    assert (tmp_path / "a.json").read_text() == '{"a": 1}', "the file is whole again"
    assert table([outcome]).splitlines()[2] == (
        "| a section | 2 | 1 | ZeroDivisionError in outside: integer division or modulo by zero (a kind, number 3) |"
    )


def test_commands_end_read_or_refused():
    assert answer(command("recipes", "ls")) == ("read", "")
    kind, said = answer(command("recipes", "cat", "lroe"))
    assert kind == "refused" and "lroe" in said


def test_the_same_seed_gives_the_same_damage():
    content = json.dumps({"a": [1, 2, {"b": "c"}], "d": None}).encode()
    first, second = ([mutated(content, ".json", random.Random(seed)) for seed in range(50)] for _ in range(2))
    assert first == second and len(set(first)) > 30
    assert sum(a != b for a, b in zip(content, flipped(content, random.Random(0)), strict=True)) == 1
