"""Two builds side by side: which trees are used, what a process answers, and why a bar cannot be measured."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import builds, real_towers
from bench.builds import Build, Subject, checked_out
from bench.frame import NotMeasured

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

STEP = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Attack:
    num_steps: int = 10
    step_size: object = None
@dataclass(frozen=True)
class Recipe:
    name: str
    perturbation: Attack = Attack()
    primal_steps: int = 1
"""
SUBJECTS = """
import torch
from dataclasses import dataclass, replace
held = []
def in_precision(recipe, precision):
    return recipe
@dataclass
class Ours:
    recipe: object
    model: str
    batch: int
    def step(self):
        print("a line of a library")
        torch.zeros(self.batch * 2**18).sum()  # a megabyte each
    def attack(self):
        end = __import__("time").process_time() + 0.1
        while __import__("time").process_time() < end: pass
def ours(recipe, batch, *, model):
    return Ours(recipe, model, batch)
"""


@pytest.fixture
def tree(tmp_path):
    """A package and a bench of a few lines, with the names that the program asks for, under version control."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    (tmp_path / "src/seaanchor/config").mkdir(parents=True)
    (tmp_path / "bench").mkdir()
    (tmp_path / "src/seaanchor/__init__.py").touch()
    (tmp_path / "src/seaanchor/config/__init__.py").touch()
    recipes = STEP + "def fare(): return Recipe('fare')\ndef lore(): return Recipe('lore')\n"
    (tmp_path / "src/seaanchor/config/recipes.py").write_text(recipes)
    (tmp_path / "bench/__init__.py").touch()
    (tmp_path / "bench/subjects.py").write_text(SUBJECTS)

    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    (tmp_path / "bench/subjects.py").write_text("broken = 1 / 0")
    return tmp_path


def test_a_commit_is_read_from_the_history_and_leaves_nothing(tree):
    with checked_out("HEAD", tree) as folder:
        assert (folder / "bench/subjects.py").read_text() == SUBJECTS  # as committed, not as it lies there
        assert sorted(path.name for path in folder.iterdir()) == ["bench", "src"]
    assert not folder.exists()


def test_no_history_is_a_reason(tree, tmp_path, monkeypatch):
    for root in (tree, tmp_path / "elsewhere"):
        root.mkdir(exist_ok=True)
        with (
            pytest.raises(NotMeasured, match="history here does not hold commit ed7a3f0"),
            checked_out("ed7a3f0", root),
        ):
            pass
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotMeasured, match="git is not installed"), checked_out("HEAD", tree):
        pass


@pytest.mark.exhaustive
def test_a_process_runs_the_tree_that_it_was_given(tree):
    """Seconds of its own, and the peak of what it holds: 100 MB that are gone afterwards."""
    with checked_out("HEAD", tree) as folder:
        build = Build(folder, Subject("fare", batch=100))
        small = Build(folder, Subject("lore", batch=1))
        attack = Build(folder, Subject("attack"))
        try:
            assert build.ask("run") < 5
            assert 80e6 < build.ask("peak") - small.ask("peak") < 200e6
            assert 0.1 <= attack.ask("run") < 0.2
        finally:
            for each in (build, small, attack):
                each.close()
                each.close()  # once more does no harm


def test_a_build_that_does_not_run_is_a_reason(tree):
    with pytest.raises(NotMeasured, match="the build in the past does not run: ZeroDivisionError"):
        Build(tree, Subject("fare"))


def test_the_past_build_is_held_against_this_one(tree, monkeypatch):
    """Both on one core, and as many as before afterwards."""
    asked, cores = [], []

    class Told:
        def __init__(self, folder, subject):
            self.name, self.subject = "now" if folder == builds.ROOT else "past", subject
            cores.append(os.sched_getaffinity(0))

        def ask(self, what):
            asked.append((self.name, what))
            return {"past": 3.0, "now": 2.0}[self.name] * (1e6 if what == "peak" else 1)

        def close(self):
            asked.append((self.name, "closed"))

    monkeypatch.setattr(builds, "Build", Told)
    before, subject = os.sched_getaffinity(0), Subject("attack", batch=2)
    real = builds.checked_out
    monkeypatch.setattr(builds, "checked_out", lambda commit: real(commit, tree))
    faster = builds.faster_than_past(subject, 1, "HEAD")
    assert faster.value == 1.5 and faster.clock == "processor" and faster.details["past_s"] == 3
    assert [name for name, what in asked if what == "run"] == ["past", "now", "past", "now", "now", "past"]
    assert {name for name, what in asked if what == "closed"} == {"past", "now"}
    assert [len(each) for each in cores] == [1, 1] and os.sched_getaffinity(0) == before
    leaner = builds.leaner_than_past(subject, "HEAD")
    assert leaner.value == 1.5 and leaner.quiet is None and "3 MB against 2 MB" in leaner.note


def test_bars_in_bf16_need_such_arithmetic(monkeypatch):
    monkeypatch.setattr(real_towers, "computes_in_bf16", lambda device: False)
    measured = [bar for bar in real_towers.BARS if "bf16" in bar.name]
    assert len(measured) == 4
    for bar in measured:
        with pytest.raises(NotMeasured, match="this processor has no fast bf16 arithmetic"):
            bar.measure()


def test_products_of_a_gradient_are_those_of_the_tower():
    """Twice 24·w² and the patch embedding for each token, as in the closed form without attention's inner products."""
    import open_clip
    import torch

    from seaanchor.profiling.flops import count_flops

    tower = open_clip.CLIP(
        16,
        {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    ).visual
    images, tokens = 3, 17
    operands = real_towers.products(tower, images * tokens, images * (tokens - 1), torch.float32)
    flops, _ = count_flops(lambda: real_towers.multiply(operands))
    blocks, patches = 2 * 24 * images * tokens * 64**2, 2 * images * (tokens - 1) * 64 * 3 * 8**2
    assert flops == 2 * (blocks + patches)
    left, right, out = operands[0]
    torch.testing.assert_close(out, left @ right)


def test_the_program_reads_nothing_of_this_tree():
    """It runs in front of another commit's package and bench."""
    source = Path(builds.PROGRAM).read_text()
    assert json.dumps(builds.PAST).strip('"') in source and "from bench.builds" not in source
