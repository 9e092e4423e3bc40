"""python -m tools.campaign [SECTION ...] [--count N] [--seed N]: try it, and print one table."""

import argparse
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
from tools.campaign.outcome import Options, Outcome, table
from tools.campaign.repeated import determinism, many_images, processes_that_disagree, soak

SECTIONS: dict[str, tuple[Callable[[Options, Path], Outcome], int]] = {
    "inputs": (mutated_inputs, 2000),
    "flips": (bit_flips, 900),
    "hostile": (hostile_files, 1),
    "kills": (kills, 160),
    "disk": (full_disk, 80),
    "processes": (processes_that_disagree, 4),
    "determinism": (determinism, 6),
    "soak": (soak, 2000),
    "images": (many_images, 20000),
}
"""Name → what runs it, and how many tries it makes by default."""


def main() -> None:
    """Run the sections and print the table; exit code 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--count", type=int, help="tries of each section")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    options = parser.parse_args()
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"  # a process that had threads cannot be forked
    outcomes = []
    for name in options.sections or SECTIONS:
        run, count = SECTIONS[name]
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SEAANCHOR_CACHE"] = str(Path(folder) / "cache")
            began = time.monotonic()
            outcomes.append(run(Options(options.count or count, options.seed), Path(folder)))
        print(f"{name}: {outcomes[-1].tried} tries in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(outcomes))
    sys.exit(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    main()
