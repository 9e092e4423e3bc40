"""What `test_kills` runs: a command, killed at one file operation after the other, and given again each time.

python kill_worker.py JOBS.json REPORT.json

Commands run in forks of this process, which has imported everything. An operation is an opening of a file to write (a
kill before it and one after it, when nothing is written yet), a rename, a link, a removal, a new folder or a flush.
"""

import builtins
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR
KILLED = 77


def count_operations(folder: Path, fatal: int) -> list[int]:
    """Count this process's operations below a folder from now on; the one of that number is its last."""
    seen = [0]

    def one(path: object) -> None:
        name = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else str(folder)
        if str(folder) in name:
            seen[0] += 1
            if seen[0] == fatal:
                os._exit(KILLED)

    def hook(event: str, arguments: tuple) -> None:
        if event in CHANGES or (event == "open" and arguments[2] & WRITES and not isinstance(arguments[0], int)):
            one(arguments[0])

    def after_opening(original: Callable) -> Callable:
        def opened(path, mode="r", *more, **settings):
            file = original(path, mode, *more, **settings)
            if set(mode) & set("wxa+") and not isinstance(path, int):
                one(path)
            return file

        return opened

    def flushed(number: int, original: Callable = os.fsync) -> None:
        one(folder)
        original(number)

    builtins.open, io.open, os.fsync = after_opening(builtins.open), after_opening(io.open), flushed
    sys.addaudithook(hook)
    return seen


def command(arguments: list[str], folder: Path, fatal: int, log: Path) -> tuple[int, int, str]:
    """Run a command in a fork: its exit code, how many operations it made, and what it printed."""
    log.unlink(missing_ok=True)
    if not (child := os.fork()):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(1, 2)
        os.chdir(folder)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["seaanchor", *arguments]
        from seaanchor.cli.app import main

        code, seen = 0, count_operations(folder, fatal)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
            code = 1
        print(f"\noperations: {seen[0]}", flush=True)
        os._exit(code)
    code, said = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text(errors="replace")
    return code, int(said.rpartition("operations: ")[2] or 0) if "operations: " in said else 0, said


def content(folder: Path) -> dict[str, str]:
    """Everything below a folder by its name; of a log the lines without times, and no machine's facts."""
    found = {}
    for path in sorted(folder.rglob("*")):
        data = b"" if path.is_dir() else path.read_bytes()
        if path.name == "metrics.jsonl":
            times = ("seconds", "images_per_s", "waiting")
            rows = [{k: v for k, v in json.loads(line).items() if k not in times} for line in data.splitlines()]
            data = json.dumps(rows).encode()
        found[str(path.relative_to(folder))] = "" if path.name == "env.json" else hashlib.sha256(data).hexdigest()[:12]
    return found


def try_all(job: dict, work: Path) -> dict:
    """Kill a command at operation after operation; what went wrong, and how many kills there were."""
    folder, wrong, kills = work / "folder", [], 0

    shutil.rmtree(work, ignore_errors=True)
    start = work / "start"
    start.mkdir(parents=True)
    for before in job.get("before", []):
        assert command(before, start, 0, work / "before.log")[0] == 0, (work / "before.log").read_text()

    def fresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(start, folder)

    fresh()
    code, total, said = command(job["arguments"], folder, 0, work / "first.log")
    assert code == 0, said
    wanted = content(folder)
    for fatal in range(1, total + 1, job.get("every", 1)):
        fresh()
        before = content(folder)
        killed, _, _ = command(job["arguments"], folder, fatal, work / "killed.log")
        kills += killed == KILLED
        between = content(folder)
        if job.get("whole") and any(
            name.startswith(job["whole"]) and wanted.get(name) != between.get(name) != before.get(name)
            for name in between
            if not name.endswith(".lock")
        ):
            wrong.append(f"kill {fatal}: {job['whole']} is there by halves: {sorted(between)}")
        code, _, said = command(job["arguments"], folder, 0, work / "again.log")
        after = content(folder)
        done = {name: value for name, value in between.items() if not name.endswith(".lock")} == wanted
        if not (after == wanted and code == 0) and not (done and code == 2):
            apart = sorted(name for name in wanted.keys() | after.keys() if wanted.get(name) != after.get(name))
            wrong.append(f"kill {fatal}: code {code}, other files {apart[:4]}; {said[-300:]}")
    return {"kills": kills, "operations": total, "wrong": wrong}


def main(jobs: Path, report: Path) -> None:
    import torch

    torch.set_num_threads(1)
    import open_clip  # noqa: F401 (once instead of in every fork)
    from PIL import Image

    import seaanchor.api
    import seaanchor.data.typographic.write
    import seaanchor.data.webdataset.write
    import seaanchor.report.model_card
    import seaanchor.training.run  # noqa: F401

    Image.init()
    found = {name: try_all(job, jobs.parent / name) for name, job in json.loads(jobs.read_text()).items()}
    report.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
