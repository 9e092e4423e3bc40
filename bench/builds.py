"""Two builds side by side in one run: the tree as it is, and the same step of an earlier commit.

Each build works in a process of its own, on one thread, both on one core, and only one of them at a time; it tells the
processor seconds that a step took. The earlier one is read from the repository's history into a folder that is gone
afterwards.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.clock import compare
from bench.frame import Measurement, NotMeasured

ROOT = Path(__file__).parents[1]
PAST = "ed7a3f0"  # before the kernels were fitted to towers of real size
PROGRAM = ROOT / "bench" / "serve.py"


@dataclass(frozen=True)
class Subject:
    """A step as every build can make it.

    Attributes:
        what: `fare` or `lore` for a training step, `attack` for the attack of a FARE step alone.
        model: of open_clip, with random weights.
        batch: images.
        precision: of attack and training passes.
        num_steps: of the attack.
        primal_steps: updates in a step.
        image_size: side in pixels; None for the model's own.
    """

    what: str
    model: str = "ViT-B-32"
    batch: int = 16
    precision: str = "fp32"
    num_steps: int = 10
    primal_steps: int = 1
    image_size: int | None = None


@contextmanager
def checked_out(commit: str, root: Path = ROOT) -> Iterator[Path]:
    """The package and the bench of an earlier commit, in a folder of their own.

    Raises:
        NotMeasured: the history does not reach back to it: an archive, a shallow clone, no git.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed, tree = ["git", "-C", str(root), "archive", "--format=tar", commit, "src", "bench"], folder / "tree.tar"
        try:
            done = subprocess.run([*packed, "--output", str(tree)], capture_output=True, text=True)
        except FileNotFoundError:
            raise NotMeasured(f"git is not installed, and commit {commit} comes from the history") from None
        if done.returncode:
            raise NotMeasured(f"the history here does not hold commit {commit}")
        subprocess.run(["tar", "-xf", str(tree), "-C", str(folder)], check=True)
        tree.unlink()
        yield folder


class Build:
    """A process that runs a step of one build when asked."""

    def __init__(self, tree: Path, subject: Subject) -> None:
        paths = os.pathsep.join(str(path) for path in (tree / "src", tree))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-P", str(PROGRAM), json.dumps(asdict(subject))]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process
        self.process = subprocess.Popen(command, env=environment, cwd=tree, stderr=self.errors, **pipes)
        self.tree = tree
        self._line("ready")

    def _line(self, expected: str = "") -> str:
        assert self.process.stdout is not None, "a pipe was asked for"
        for line in self.process.stdout:
            if line.strip() == expected or (not expected and line.startswith("{")):
                return line  # other lines are what libraries print
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines() or ["it ended without a word"]
        raise NotMeasured(f"the build in {'this tree' if self.tree == ROOT else 'the past'} does not run: {said[-1]}")

    def ask(self, what: str) -> float:
        """`run` → processor seconds of a step; `peak` → bytes resident at its worst moment.

        Raises:
            NotMeasured: the build does not run here, such as for want of a library that it needed then.
        """
        assert self.process.stdin is not None, "a pipe was asked for"
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        (value,) = json.loads(self._line()).values()
        return float(value)

    def close(self) -> None:
        """End the process, once or more often."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                pipe.close()


@contextmanager
def both(subject: Subject, commit: str = PAST) -> Iterator[tuple[Build, Build]]:
    """The past build and this one, both on one core."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
    with ExitStack() as stack:
        tree = stack.enter_context(checked_out(commit))
        if cores:
            os.sched_setaffinity(0, {min(cores)})  # their processes inherit it
            stack.callback(os.sched_setaffinity, 0, cores)
        builds = []
        for folder in (tree, ROOT):
            builds.append(Build(folder, subject))
            stack.callback(builds[-1].close)
        yield builds[0], builds[1]


def faster_than_past(subject: Subject, pairs: int, commit: str = PAST) -> Measurement:
    """Seconds of the past build's step over those of this one's."""
    with both(subject, commit) as (past, now):
        times = compare(lambda: past.ask("run"), lambda: now.ask("run"), pairs=pairs, own_clocks=True)
    details = {"past": commit, "past_s": times.first, "ours_s": times.second, **asdict(subject)}
    note = f"{subject.batch} images; {times.first:.2f} s against {times.second:.2f} s"
    return Measurement(times.first / times.second, times.quiet, "processor", details, note)


def leaner_than_past(subject: Subject, commit: str = PAST) -> Measurement:
    """Peak of resident memory of the past build's step over that of this one's; each in its own process, which has not
    worked before. Two updates see the worst moment: the second finds the optimizer's state."""
    with both(subject, commit) as builds:
        peaks = [build.ask("peak") for build in builds]
    details = {"past": commit, "past_bytes": peaks[0], "ours_bytes": peaks[1], **asdict(subject)}
    note = f"{peaks[0] / 1e6:,.0f} MB against {peaks[1] / 1e6:,.0f} MB resident"
    return Measurement(peaks[0] / peaks[1], details=details, note=note)
