"""Try the architectures one by one, each in a process of its own, and write the table.

    python -m tools.compatibility --work build/compatibility              # all that have no result yet
    python -m tools.compatibility --work build/compatibility --only resnet --again
    python -m tools.compatibility --work build/compatibility --table-only

Results are lines of WORK/results.jsonl; the last one of a name counts. The largest take about 8 GB of memory.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.compatibility.child import main as main_of_child
from tools.compatibility.child import prepare
from tools.compatibility.names import FAMILIES, LIMIT, OTHERS, open_clip_sizes, reduced_side, slow
from tools.compatibility.table import write_table
from tools.compatibility.tags import compare_tags

ROOT = Path(__file__).parents[2]
SMALL = 140e6  # parameters of what is tried first
PAGE = ROOT / "docs/compatibility.md"


def every_name(work: Path) -> list[str]:
    """All names in the order in which they are tried, the smallest first and the slowest last."""
    from tools.compatibility.hugging_face import FAMILIES as CLASSES

    sizes = open_clip_sizes(work / "open_clip_sizes.json")
    known = [name for name, size in sizes.items() if size <= LIMIT]
    open_clip = sorted(known, key=lambda name: (slow(name), sizes[name]))
    return [
        *(f"hf:{name}" for name in CLASSES),
        *(f"open_clip:{name}" for name in open_clip if sizes[name] < SMALL),
        *(f"timm:{name}" for name in FAMILIES),
        *(f"open_clip:{name}" for name in open_clip if sizes[name] >= SMALL),
        *(f"timm:{name}" for name in OTHERS),
    ]


def try_one(name: str, work: Path, timeout: float, only: list[str]) -> dict[str, Any]:
    """The record of one model; with `only`, of these checks."""
    bare, _, asked = name.partition("@")
    library, _, own = bare.partition(":")
    side = int(asked or 0) or (reduced_side(own) if library == "open_clip" else 0) or None
    record: dict[str, Any] = {"name": name, "checks": {}, "versions": versions()}
    start, running = time.perf_counter(), ""
    log = work / "logs" / name.replace("/", "_")
    log.parent.mkdir(parents=True, exist_ok=True)
    ended = run_apart(lambda: main_of_child(bare, side, work, only), log, timeout)
    record["reduced"] = library == "open_clip" and side is not None
    for line in log.with_name(log.name + ".jsonl").read_text().splitlines():
        told = json.loads(line)
        if "check" in told:
            record["checks"][told["check"]] = {key: told[key] for key in ("error", "seconds")}
            running = ""
        elif "begins" in told:
            running = told["begins"]
        else:
            record |= told
    if ended:
        record["checks"][running or "start"] = {"error": ended, "seconds": 0.0}
    record["seconds"] = round(time.perf_counter() - start, 1)
    return record


def run_apart(run: Callable[[], None], log: Path, timeout: float) -> str:
    """Run something in a process of its own, its output and errors in files; gives how it ended if not well."""
    child = os.fork()
    if child == 0:
        for stream, suffix in ((1, ".jsonl"), (2, ".txt")):
            os.dup2(os.open(log.with_name(log.name + suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # also where they were something else
        status = 1
        try:
            run()
            status = 0
        except BaseException:  # the parent's loop must not go on here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    start, ended = time.perf_counter(), ""
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.05)
        if time.perf_counter() - start > timeout and not ended:
            os.kill(child, signal.SIGKILL)
            ended = f"no end after {timeout:.0f} s"
    code = os.waitstatus_to_exitcode(found[1])
    if code < 0:
        return ended or f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}: {log.with_name(log.name + '.txt').read_text()[-300:]}" if code else ""


def versions() -> dict[str, str]:
    """What the result was made with."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    libraries = ("torch", "open_clip_torch", "timm", "transformers")
    return {"commit": head.strip(), **{name: version(name) for name in libraries}}


def results(work: Path) -> dict[str, dict[str, Any]]:
    """The last record of each name."""
    file = work / "results.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return {record["name"]: record for record in map(json.loads, lines)}


def tags(work: Path) -> dict[str, Any]:
    """What `compare_tags` found, kept in a file."""
    file = work / "tags.json"
    if not file.is_file():
        file.write_text(json.dumps(compare_tags()))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def merged(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """A record with some checks made again."""
    if before is None:
        return now
    return before | now | {"checks": before["checks"] | now["checks"], "seconds": before["seconds"]}


def main() -> None:
    """See the file's top."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="results and logs")
    parser.add_argument("--only", nargs="*", help="names that contain one of these")
    parser.add_argument("--checks", nargs="*", default=[], help="some checks alone, into the records that are there")
    parser.add_argument("--again", action="store_true", help="also those that have a result")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one model")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no new model after these")
    parser.add_argument("--table-only", action="store_true", help="write the table of what is there")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    start, names = time.perf_counter(), every_name(options.work)
    chosen = [name for name in names if not options.only or any(part in name for part in options.only)]
    prepare()
    for name in [] if options.table_only else chosen:
        if time.perf_counter() - start > 60 * options.minutes:
            break
        if name in results(options.work) and not options.again:
            continue
        record = try_one(name, options.work, options.timeout, options.checks)
        if options.checks:
            record = merged(results(options.work).get(name), record)
        with (options.work / "results.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        wrong = {check: told["error"] for check, told in record["checks"].items() if told["error"]}
        print(f"{time.strftime('%H:%M')} {name} {record['seconds']} s {wrong or 'passed'}", flush=True)
    write_table(PAGE, names, results(options.work), tags(options.work))


if __name__ == "__main__":
    main()
