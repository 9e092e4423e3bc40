"""The campaign: a small sample of it, and that it notices what it is for."""

import json
import os
import random

import pytest

from seaanchor.errors import SeaAnchorError
from tools.campaign.dying import die, digest, in_child, no_space, operations, trap
from tools.campaign.inputs import Kind, _count, _try, kinds
from tools.campaign.interrupted import _wrong
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


def write_two(folder, text):
    """Two files, one after the other: no rename, so that a kill between them is seen."""
    for name in ("a", "b"):
        (folder / name).write_text(text)


def test_a_kill_and_a_full_disk_at_every_operation(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    assert operations(lambda: write_two(place, "x"), place) == 2
    whole = digest(place)
    (place / "b").unlink()
    (place / "a").unlink()
    assert in_child(lambda: write_two(place, "x"), trap(place, 2, die)) == 9 and [*digest(place)] == ["a"]
    assert in_child(lambda: write_two(place, "x"), trap(place, 1, no_space)) == 1, "an OSError that nobody turned"
    assert _wrong(9, True, lambda: write_two(place, "x"), whole, lambda: digest(place)) is None
    assert "leaves something else" in str(_wrong(9, True, lambda: None, whole, lambda: {}))
    assert "given again, it ends with 2" in str(_wrong(9, True, refuse, whole, lambda: {}))


def refuse():
    """A command that refuses what a kill left."""
    raise SeaAnchorError("it is there already", "nothing", "remove it")


def test_the_child_leaves_this_process_alone(tmp_path):
    assert in_child(lambda: os.chdir(tmp_path)) == 0 and os.getcwd() != str(tmp_path)
