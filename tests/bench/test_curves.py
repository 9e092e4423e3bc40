"""How a curve is judged, and that a point is what one process measured."""

import json
import mmap
import sys

import pytest

from bench import curves
from bench.evaluation import child_seconds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_straight_line_has_steepness_one_and_growth_more():
    x = [1, 2, 4, 8, 16]
    assert curves.steepness(x, [3 + 2 * v for v in x]) == pytest.approx(1)
    assert curves.steepness(x, [v**2 for v in x]) > 2
    assert curves.steepness(x, [v**0.5 for v in x]) < 0.7
    assert curves.steepness(x, [100, 101, 100, 102, 105]) == 1  # flat
    assert curves.steepness(x, [10, 5, 5, 50, 100]) == float("inf")


def test_slope_is_that_of_least_squares():
    assert curves.slope([0, 1, 2], [1, 3, 5]) == pytest.approx(2)
    assert curves.slope([0, 1, 2], [0, 3, 0]) == pytest.approx(0)


def test_the_peak_is_that_of_the_work():
    import torch

    before = curves.resident()
    curves.forget_peak()
    pages = mmap.mmap(-1, 10**8)  # not from what the allocator kept of earlier tests
    torch.frombuffer(pages, dtype=torch.uint8).fill_(1)
    del pages
    assert 80 < curves.peak() - before < 200


def test_drawing_makes_one_figure_of_the_curves_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "FIGURE", tmp_path / "curves.svg")
    monkeypatch.setattr(curves, "FILE", tmp_path / "curves.json")
    monkeypatch.setattr(
        curves, "point", lambda kind, size: {"size": size, "seconds": float(size), "peak_mb": 100.0, "before_mb": 90.0}
    )
    found = curves.curve("primal")
    assert found.value == pytest.approx(1) and found.details == {"time": pytest.approx(1), "memory": 1}
    assert set(json.loads((tmp_path / "curves.json").read_text())) == {"primal"}
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_seconds_of_a_child_are_its_own():
    busy = child_seconds(
        [sys.executable, "-c", "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"]
    )
    idle = child_seconds([sys.executable, "-c", "import time\ntime.sleep(0.3)"])
    assert busy > 0.3 > idle
