"""How time and memory grow: with the batch, with classes, with images, and with LORE's K. Every point is a fresh
process.

`python -m bench.curves batch 64` measures one point and prints it; a bar measures a curve, adds it to
`bench/curves.json` and draws all curves that are there into one figure. Seconds are processor seconds on one thread;
memory is the peak of the resident set while the work runs.

Legend: B batch, C classes, D embedding dimension.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.frame import Bar, Measurement
from seaanchor.utils.checkpoint import write_atomic

ROOT = Path(__file__).parents[1]
FILE, FIGURE = ROOT / "bench" / "curves.json", ROOT / "docs" / "figures" / "performance-curves.svg"
POINTS = {
    "batch": (8, 16, 32, 64, 128),
    "classes": (1_000, 5_000, 10_000, 21_000),
    "images": (1_000, 10_000, 25_000, 50_000),
    "primal": (1, 2, 5, 10),
}
TITLES = {
    "batch": ("FARE step", "images in a batch"),
    "classes": ("step of APGD-CE, 64 images", "classes"),
    "images": ("evaluation: clean accuracy", "images"),
    "primal": ("LORE step, 16 images", "primal updates K"),
}
STEEPEST = 1.15  # slope of a curve's upper half over that of its lower half; a straight line has 1
REPEATS = 3

Point = dict[str, float]


def class_step(count: int) -> Callable[[], object]:
    """A gradient step of APGD-CE on 64 photos before random class embeddings, with the look at who is fooled."""
    import torch
    import torch.nn.functional as F

    from bench.attacked import CPU, attacked
    from seaanchor.attacks.apgd_classifier import apgd_ce
    from seaanchor.attacks.ball import Ball
    from seaanchor.encoders.load import load_model
    from seaanchor.evaluation.zeroshot import classifier
    from seaanchor.types import Head

    model, seen = load_model("seaanchor-tiny"), attacked("seaanchor-tiny", 64)
    weight_CD = F.normalize(torch.randn(count, model.encoder.dim, generator=torch.Generator().manual_seed(0)), dim=-1)
    logits = classifier(model, Head(weight_CD, model.logit_scale), CPU)
    with torch.no_grad():
        label_B = logits(seen.pixels_BCHW).argmax(-1)  # so that nothing is retired at once
    ball = Ball("linf", 0.0)  # nor later: every step costs the same
    return lambda: apgd_ce(
        logits, seen.pixels_BCHW, label_B, ball, num_steps=2, index_B=seen.index_B, start_BCHW=seen.pixels_BCHW
    )


def batch_step(count: int) -> Callable[[], object]:
    """A FARE step on that many photos."""
    from bench.subjects import ours
    from seaanchor.config.recipes import fare

    return ours(fare(), count).step


def primal_step(count: int) -> Callable[[], object]:
    """A LORE step with that many primal updates."""
    from bench.subjects import ours
    from seaanchor.config.recipes import lore

    return ours(replace(lore(), primal_steps=count), 16).step


def evaluation(count: int, folder: Path) -> Callable[[], object]:
    """`seaanchor evaluate` on that many photos, from 800 up: the embedded ones again and again, as links."""
    from seaanchor.data.sources import open_images
    from seaanchor.data.types import ClassifiedImages
    from seaanchor.evaluation.protocol import Protocol
    from seaanchor.evaluation.run import evaluate

    images = open_images("photos-mini/test")
    assert isinstance(images, ClassifiedImages), "class folders"
    source = folder / "photos"
    for label, name in enumerate(images.class_names):
        (source / f"{label:02d} {name}").mkdir(parents=True)
    for i in range(count):
        photo, label = Path(str(images.paths[i % len(images.paths)])), images.labels[i % len(images.labels)]
        os.symlink(photo, source / f"{label:02d} {images.class_names[label]}" / f"{i}{photo.suffix}")
    return lambda: evaluate("seaanchor-tiny", [str(source)], Protocol(()), folder / "out")


def measure(kind: str, size: int) -> Point:
    """One point, in this process: least seconds of a call, and megabytes resident at the peak and before the work."""
    import torch

    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        work = {
            "batch": batch_step,
            "classes": class_step,
            "images": partial(evaluation, folder=folder),
            "primal": primal_step,
        }[kind](size)
        before = resident()
        forget_peak()
        seconds = []
        for _ in range(1 if kind == "images" else REPEATS):
            started = time.process_time()
            work()
            seconds.append(time.process_time() - started)
        return {"size": size, "seconds": min(seconds), "peak_mb": peak(), "before_mb": before}
    finally:
        shutil.rmtree(folder)


def resident() -> float:
    """Megabytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def forget_peak() -> None:
    """Let the peak start anew from here (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Largest number of resident megabytes since then."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def point(kind: str, size: int) -> Point:
    """One point, measured by a process of its own; the cache is off."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEAANCHOR_CACHE": "off"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.curves", kind, str(size)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise RuntimeError(f"{kind} {size} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def steepness(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the upper half of a curve over that of its lower half, each by least squares: 1 for a straight line,
    more for what grows faster. A curve that rises by less than a tenth in all counts as flat."""
    if max(y) - y[0] < 0.1 * y[0]:
        return 1.0
    middle = len(x) // 2
    low, high = slope(x[: middle + 1], y[: middle + 1]), slope(x[middle:], y[middle:])
    return high / low if low > 0 else float("inf")


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line through the points by least squares."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def curve(kind: str) -> Measurement:
    """Measure a curve, keep it and draw all: how much steeper its upper half is than its lower, in time or memory,
    whichever is more."""
    points = [point(kind, size) for size in POINTS[kind]]
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    write_atomic(FILE, json.dumps(dict(sorted((known | {kind: points}).items())), indent=2) + "\n")
    draw(known | {kind: points})
    x = [p["size"] for p in points]
    seconds, memory = steepness(x, [p["seconds"] for p in points]), steepness(x, [p["peak_mb"] for p in points])
    first, last = points[0], points[-1]
    note = (
        f"{first['size']:,} to {last['size']:,}: {first['seconds']:.3g} to {last['seconds']:.3g} s, "
        f"{first['peak_mb']:.0f} to {last['peak_mb']:.0f} MB"
    )
    return Measurement(max(seconds, memory), None, "processor", {"time": seconds, "memory": memory}, note)


def draw(curves: dict[str, list[Point]]) -> None:
    """All curves in one figure, seconds and resident megabytes as multiples of the first point."""
    from seaanchor.plotting.panels import Series, panels

    found = []
    for kind in (kind for kind in POINTS if kind in curves):
        points, (title, counted) = curves[kind], TITLES[kind]
        unit, counted = (1_000, f"{counted}, thousands") if points[-1]["size"] >= 10_000 else (1, counted)
        x = [p["size"] / unit for p in points]
        lines = [
            Series(label, x, [p[key] / points[0][key] for p in points])
            for label, key in (("processor seconds", "seconds"), ("resident peak", "peak_mb"))
        ]
        found.append((title, counted, "times the first point", lines))
    panels(found, FIGURE)


def _bar(kind: str, what: str) -> Bar:
    return Bar(
        f"curve-{kind}",
        f"{what}: slope of time or memory, upper half / lower half",
        partial(curve, kind),
        1.0,
        at_most=STEEPEST,
    )


BARS = [
    _bar("batch", "a larger batch"),
    _bar("classes", "more classes"),
    _bar("images", "more images"),
    _bar("primal", "a larger K"),
]

if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
