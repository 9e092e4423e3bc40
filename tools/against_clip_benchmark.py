"""Evaluate one model on one data set here and with CLIP_benchmark, and fail unless the accuracies agree to the image.

CLIP_benchmark needs numpy below 2.4, so it lives in an environment of its own:

    python3.11 -m venv clipbench && clipbench/bin/pip install "numpy<2.4" clip_benchmark requests
    python tools/against_clip_benchmark.py --clip-benchmark clipbench/bin/clip_benchmark --data photos-mini/test

The data set is built as shards, both programs read those, and `clip_benchmark build` then reads the result files of
both.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from seaanchor.encoders.embedded import ZOO

KEYS = ("acc1", "acc5", "mean_per_class_recall")


def run(*command: object) -> None:
    """Run a command, or stop with what it printed."""
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def compare(options: argparse.Namespace, folder: Path) -> bool:
    """Both programs on the same shards; prints their numbers side by side and says whether they are the same."""
    seaanchor = [sys.executable, "-m", "seaanchor.cli"]
    data, theirs, table = folder / "wds" / "set", folder / "theirs.json", folder / "table.csv"
    templates = ["--templates", *options.templates] if options.templates else []
    run(*seaanchor, "data", "build", "--data", options.data, "--output", data, "--shard-size", "300", *templates)
    run(
        *seaanchor,
        "evaluate",
        "--model",
        options.model,
        "--data",
        data,
        "--suite",
        "clean",
        "--output",
        folder / "ours",
    )
    model = f"local-dir:{(ZOO / options.model if (ZOO / options.model).is_dir() else Path(options.model)).resolve()}"
    run(
        options.clip_benchmark,
        "eval",
        "--model",
        model,
        "--pretrained",
        "seaanchor",
        "--dataset",
        "wds/set",
        "--dataset_root",
        data,
        "--no_amp",
        "--num_workers",
        "0",
        "--output",
        theirs,
    )
    run(options.clip_benchmark, "build", folder / "ours", theirs, "--output", table)
    ours = json.loads(next((folder / "ours").glob("*.json")).read_text())
    got, expected, count = ours["metrics"], json.loads(theirs.read_text())["metrics"], ours["clean"]["n"]
    for key in KEYS:
        print(f"{key:<22} {got[key]:.6f} here, {expected[key]:.6f} CLIP_benchmark, n = {count}")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    print(f"clip_benchmark build: {len(rows)} rows, acc1 {', '.join(row['acc1'] for row in rows)}")
    return len(rows) == 2 and all(abs(got[key] - expected[key]) * count < 0.01 for key in KEYS)


def main() -> None:
    """Parse and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip-benchmark", required=True, help="the program clip_benchmark of its environment")
    parser.add_argument("--data", default="photos-mini/test", help="any labelled source")
    parser.add_argument(
        "--model", default="seaanchor-tiny", help="an embedded model, or the folder of an export that holds both towers"
    )
    parser.add_argument("--templates", nargs="*", default=[], help="as for `seaanchor data build`")
    with tempfile.TemporaryDirectory() as folder:
        agree = compare(parser.parse_args(), Path(folder))
    print("they agree" if agree else "they do NOT agree")
    sys.exit(not agree)


if __name__ == "__main__":
    main()
