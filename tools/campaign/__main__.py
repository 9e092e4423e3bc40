"""python -m tools.campaign [SECTION ...] [--count N] [--seed N] [--jobs N]: try it, and print one table."""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tools.campaign.outcome import table
from tools.campaign.sections import SECTIONS, section


def main() -> None:
    """Run the sections and print the table; exit code 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--count", type=int, help="tries of each section")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--jobs", type=int, default=2, help="sections at once, each in a process of its own")
    options = parser.parse_args()
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        parser.error(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    names = [name for name in SECTIONS if name in options.sections or not options.sections]
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        running = [pool.submit(section, name, options.count, options.seed) for name in names]
        outcomes = [done.result() for done in running]
    print(table(outcomes))
    sys.exit(any(outcome.failures for outcome in outcomes))


if __name__ == "__main__":
    main()
