"""The campaign: a small sample of it, and that it notices what it is for."""

import json
import random
import shutil
import time

import pytest

from seaanchor.errors import SeaAnchorError
from tools.campaign.dying import die, digest, in_child, no_space, operations, trap
from tools.campaign.hostile import ADVICE
from tools.campaign.inputs import Kind, _count, _try, kinds
from tools.campaign.interrupted import _wrong
from tools.campaign.material import make
from tools.campaign.mutations import flipped, mutated
from tools.campaign.outcome import Options, Outcome, answer, command, table
from tools.campaign.repeated import Again, _compare, _watched

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


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("it holds a global. Set weights_only=False to load it", True),
        ("no answer; pass token=NAME", True),
        ("no code\n  expected: none\n  change:   set trust_remote_code", True),
        ("it sets trust_remote_code\n  expected: no code\n  change:   remove it", False),
    ],
)
def test_advice_to_switch_a_protection_off_is_noticed(said, advice):
    assert bool(ADVICE.search(said)) is advice


def test_the_same_seed_gives_the_same_damage():
    content = json.dumps({"a": [1, 2, {"b": "c"}], "d": None}).encode()
    first, second = ([mutated(content, ".json", random.Random(seed)) for seed in range(50)] for _ in range(2))
    assert first == second and len(set(first)) > 30
    assert sum(a != b for a, b in zip(content, flipped(content, random.Random(0)), strict=True)) == 1


def test_a_command_survives_a_kill_and_a_full_disk_at_each_of_its_operations(tmp_path):
    place = tmp_path / "out"
    call = command("recipes", "cp", "lore", place / "lore.yaml")
    place.mkdir()
    count, whole = operations(call, place), digest(place)
    assert count >= 2 and set(whole) == {"lore.yaml"}
    ends = {die: set(), no_space: set()}
    for act, codes in ends.items():
        for number in range(1, count + 1):
            shutil.rmtree(place)
            place.mkdir()
            codes.add(code := in_child(call, trap(place, number, act)))
            assert _wrong(code, act is die, call, whole, lambda: digest(place)) is None
    assert ends[die] == {9} and 2 in ends[no_space] <= {0, 2}, "what is tidied may fail without a loss"


def test_a_command_that_loses_something_is_noticed(tmp_path):
    def careless() -> None:
        if (tmp_path / "b").exists():
            raise SeaAnchorError("b exists", "no b", "remove it")
        for name in "abc":
            (tmp_path / name).write_text("whole")

    careless()
    whole = digest(tmp_path)
    for name in "abc":
        (tmp_path / name).unlink()
    assert in_child(careless, trap(tmp_path, 3, die)) == 9
    found = _wrong(9, True, careless, whole, lambda: digest(tmp_path))
    assert found == "given again, it ends with 2"
    assert _wrong(1, False, careless, whole, lambda: whole) == "ended with 1 in place of one clear error"
    assert in_child(lambda: 1 // 0) == 1, "a traceback"


def test_memory_and_files_are_looked_at():
    seen = []
    with _watched(seen), open(__file__):
        while len(seen) < 2:
            time.sleep(0.01)
    assert all(memory > 1e7 and files > 2 for memory, files in seen)


def test_what_grows_late_is_noticed():
    even, grows = Outcome("even"), Outcome("grows")
    _compare(even, [(1e9 * (look < 3) + 5e8, 20) for look in range(100)], "a start alone")
    _compare(grows, [(5e8 + 2e6 * look, 20 + look // 10) for look in range(100)], "each time a little")
    assert (even.tried, even.failures) == (2, [])
    assert grows.failures == ["80 MB more late"] and "+4 open files" in grows.notes[0]


def test_photos_again_and_again():
    photos = Again(1700)
    assert len(photos) == len(photos.targets) == 1700
    assert photos[0][1] == photos[800][1] == photos[1600][1] and photos[0][0].size == photos[800][0].size
    with pytest.raises(IndexError):
        photos[1700]
