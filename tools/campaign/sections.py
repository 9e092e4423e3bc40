"""The sections of the campaign, by name."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tools.campaign.flips import bit_flips
from tools.campaign.hostile import hostile_files
from tools.campaign.inputs import mutated_inputs
from tools.campaign.interrupted import full_disk, kills
from tools.campaign.outcome import Options, Outcome
from tools.campaign.repeated import determinism, many_images, processes_that_disagree, soak

SECTIONS: dict[str, tuple[Callable[[Options, Path], Outcome], int]] = {
    "kills": (kills, 160),
    "soak": (soak, 2000),
    "inputs": (mutated_inputs, 2000),
    "disk": (full_disk, 80),
    "determinism": (determinism, 6),
    "images": (many_images, 20000),
    "processes": (processes_that_disagree, 4),
    "hostile": (hostile_files, 1),
    "flips": (bit_flips, 900),
}
"""Name → what runs it, and how many tries it makes by default; the longest first, for `--jobs`."""


def section(name: str, count: int | None, seed: int) -> Outcome:
    """What came of one section."""
    run, usual = SECTIONS[name]
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"  # a process that had threads cannot be forked
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEAANCHOR_CACHE"] = str(Path(folder) / "cache")
        began = time.monotonic()
        outcome = run(Options(count or usual, seed), Path(folder))
    print(f"{name}: {outcome.tried} tries in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return outcome
