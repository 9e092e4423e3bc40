"""Measure the bars: `python -m bench [--only name,name] [--missing] [--quick] [--list]`, from the root of the
repository."""

import argparse
import os
import sys
import time
import traceback

import torch

from bench import architectures, evaluation, kernels, loading, prediction, real_towers, report, training
from bench.clock import QUICK
from bench.frame import Bar, Measurement, NotMeasured


def bars() -> list[Bar]:
    """All bars, in the order of the table."""
    groups = (training, real_towers, kernels, architectures, evaluation, prediction, loading)
    return [bar for group in groups for bar in group.BARS]


def chosen(every: list[Bar], only: str | None, missing: bool) -> list[Bar]:
    """The bars to run: those named, those without a measurement so far, or all."""
    known, wanted = {bar.name for bar in every}, [name for name in (only or "").split(",") if name]
    if unknown := sorted(set(wanted) - known):
        sys.exit(f"no bar is called {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    done = {name for name, result in report.read().items() if result["value"] is not None} if missing else set()
    return [bar for bar in every if (not wanted or bar.name in wanted) and bar.name not in done]


def run(bar: Bar) -> report.Row:
    """Measure one bar, once more if the machine was noisy; whatever goes wrong is its reason for not being measured."""
    started = time.perf_counter()
    outcome: Measurement | str
    try:
        outcome = bar.measure()
        if outcome.quiet is False:
            outcome = bar.measure()
    except NotMeasured as reason:
        outcome = str(reason)
    except Exception as error:
        traceback.print_exc()
        outcome = f"{report.FAILED}{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return report.row(bar, outcome, time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Speed bars, each a ratio measured side by side."
    )
    parser.add_argument("--only", help="names of bars, separated by commas; the others keep their results")
    parser.add_argument(
        "--missing",
        action="store_true",
        help="only bars without a measurement in bench/results.json: go on after an interruption",
    )
    parser.add_argument("--quick", action="store_true", help="one round of each bar, printed and not kept")
    parser.add_argument("--list", action="store_true", help="print the bars and measure nothing")
    options = parser.parse_args()
    every = bars()
    if options.list:
        for bar in every:
            print(f"{bar.name:<28} {bar.what}")
        return
    torch.set_num_threads(1)
    print(", ".join(f"{key}: {value}" for key, value in report.machine().items()), flush=True)
    if options.quick:
        os.environ[QUICK] = "1"
    for bar in chosen(every, options.only, options.missing):
        result = run(bar)
        if not options.quick:
            # at once, so that an interruption loses one bar at most
            report.write_table(every, report.keep(bar.name, result))
        print(report.line(bar.name, result), flush=True)


if __name__ == "__main__":
    main()
