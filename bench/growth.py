"""Seconds an image of an attack step against image size and against batch, before and after: `python -m bench.growth`.

A ViT-B/32 with random weights in fp32, one gradient to the pixels of each image, by the build of an earlier commit and
by this one, each in a process of its own on one thread and one core. The points go to `bench/growth.json`, the figure
to `docs/figures/attack-step.svg`.
"""

import json
from collections.abc import Iterable

from bench.builds import PAST, ROOT, Subject, both
from bench.clock import compare
from seaanchor.plotting.panels import Series, panels
from seaanchor.utils.checkpoint import write_atomic

FILE, FIGURE = ROOT / "bench" / "growth.json", ROOT / "docs" / "figures" / "attack-step.svg"
SIZES, BATCHES = (96, 160, 224, 320, 448), (1, 2, 4, 8, 16, 32)
OWN_SIZE, FEW = 224, 4  # pixels while the batch grows, images while the size does
ROUNDS = 2

Point = dict[str, float]


def point(size: int, batch: int) -> Point:
    """Seconds an image of both builds."""
    with both(Subject("attack", batch=batch, num_steps=1, image_size=size)) as (past, now):
        times = compare(lambda: past.ask("run"), lambda: now.ask("run"), pairs=ROUNDS, own_clocks=True)
    return {"size": size, "batch": batch, "past_s": times.first / batch, "ours_s": times.second / batch}


def draw(by_size: Iterable[Point], by_batch: Iterable[Point]) -> None:
    """Both curves, each with a line for each build."""
    found = []
    for points, key, counted in (
        (list(by_size), "size", f"side of {FEW} images in pixels"),
        (list(by_batch), "batch", f"images in a batch, {OWN_SIZE} pixels"),
    ):
        x = [p[key] for p in points]
        lines = [Series(label, x, [p[name] for p in points]) for label, name in ((PAST, "past_s"), ("now", "ours_s"))]
        found.append(("attack step, ViT-B/32, fp32", counted, "processor seconds an image", lines))
    panels(found, FIGURE)


def main() -> None:
    by_size, by_batch = [], []
    for found, pairs in ((by_size, [(s, FEW) for s in SIZES]), (by_batch, [(OWN_SIZE, b) for b in BATCHES])):
        for size, batch in pairs:
            found.append(point(size, batch))
            past, now = (found[-1][name] for name in ("past_s", "ours_s"))
            print(f"{size} px, {batch:>2} images: {past:.3f} s an image, now {now:.3f}: {past / now:.2f}x", flush=True)
    write_atomic(FILE, json.dumps({"by_size": by_size, "by_batch": by_batch}, indent=2) + "\n")
    draw(by_size, by_batch)


if __name__ == "__main__":
    main()
