"""The mutation run: which faults there are, and that each is exactly one change that still compiles."""

import ast

import pytest

from tools import mutation
from tools.mutation import ROOT, SOURCES, TESTS, Fault, changed_source, changes, faults, sampled


def variants(source: str) -> dict[str, str]:
    """Every change of a source, by its name."""
    found = {}
    for number, (_, name, _) in enumerate(changes(ast.parse(source))):
        tree = ast.parse(source)
        list(changes(tree))[number][2]()
        found[name] = ast.unparse(ast.fix_missing_locations(tree))
    return found


def test_the_faults_of_a_small_function():
    source = "def f(x: int, y=0.5):\n    return x.detach() - y if x < 3 and x.min() else -x\n"
    assert variants(source) == {
        "0.5 → 1.0": "def f(x: int, y=1.0):\n    return x.detach() - y if x < 3 and x.min() else -x",
        "branches exchanged": "def f(x: int, y=0.5):\n    return -x if x < 3 and x.min() else x.detach() - y",
        "And → Or": "def f(x: int, y=0.5):\n    return x.detach() - y if x < 3 or x.min() else -x",
        "Sub → Add": "def f(x: int, y=0.5):\n    return x.detach() + y if x < 3 and x.min() else -x",
        "USub left out": "def f(x: int, y=0.5):\n    return x.detach() - y if x < 3 and x.min() else +x",
        "Lt → LtE": "def f(x: int, y=0.5):\n    return x.detach() - y if x <= 3 and x.min() else -x",
        "Lt → Gt": "def f(x: int, y=0.5):\n    return x.detach() - y if x > 3 and x.min() else -x",
        "min → max": "def f(x: int, y=0.5):\n    return x.detach() - y if x < 3 and x.max() else -x",
        "detach left out": "def f(x: int, y=0.5):\n    return (lambda *_, **__: x)() - y if x < 3 and x.min() else -x",
        "3 → 4": "def f(x: int, y=0.5):\n    return x.detach() - y if x < 4 and x.min() else -x",
    }


def test_words_for_people_and_annotations_are_left_alone():
    source = "def f(x: tuple[3]) -> 4:\n    if x:\n        raise SeaAnchorError(f'{x + 1}')\n    return note(1 + 2)"
    assert variants(source) == {}


@pytest.mark.parametrize("file", TESTS)
def test_every_fault_of_the_table_compiles_and_changes_the_file(file):
    plain = ast.unparse(ast.parse((ROOT / SOURCES / file).read_text()))
    found = faults(file)
    assert found or file == "objectives/embedding.py"
    for fault in found[::7]:
        source = changed_source(fault)
        compile(source, file, "exec")
        assert source != plain
    assert all((ROOT / test).exists() for test in TESTS[file])


def test_a_sample_is_the_same_every_time():
    files = ["attacks/ball.py", "anchors/lagrangian.py"]
    assert sampled(files, 9, 3) == sampled(files, 9, 3) != sampled(files, 9, 4)
    assert len(sampled(files, 0, 0)) == sum(len(faults(file)) for file in files)


@pytest.mark.exhaustive
def test_a_failing_test_notices_and_a_passing_one_does_not(tmp_path, monkeypatch):
    """In a tree of two files, with tests of its own."""
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "SOURCES", SOURCES.__class__("src"))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "small_module.py").write_text(
        "def double(x):\n    return x + x\n\ndef unused(x):\n    return x + 1\n"
    )
    (tmp_path / "test_small.py").write_text(
        "from small_module import double\n\ndef test_it():\n    assert double(3) == 6\n"
    )
    used, unused, number = faults("small_module.py")
    assert (used.change, unused.change, number.change) == ("Add → Sub", "Add → Sub", "1 → 2")
    tests = (str(tmp_path / "test_small.py"),)
    assert not mutation.noticed(None, tmp_path, tests)
    assert mutation.noticed(used, tmp_path, tests)
    assert not mutation.noticed(unused, tmp_path, tests)
    assert "return x + x" in (tmp_path / "src" / "small_module.py").read_text(), "put back afterwards"
    assert isinstance(used, Fault)
