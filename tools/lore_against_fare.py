"""LORE against FARE and against the naive penalty: same model, photos, batches, attack and number of images.

python tools/lore_against_fare.py --model EXPORT --train-data TINY_IMAGENET/train --cifar10 CIFAR/test --output runs/lore-against-fare

Each method first runs short at two learning rates; the one with the larger sum of clean and robust accuracy on `photos-mini` runs at full length.
Every run is resumable and skipped when it is done; `--only NAME` runs one method, so that several can share a machine. The table is made of
whatever is there. Accuracies at full length are under APGD-CE, then targeted APGD-DLR.
"""

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from seaanchor.config import RunConfig
from seaanchor.recipes import fare_tiny, lore_tiny, penalty

RHOS, WEIGHTS, RATES = (0.03, 0.06), (1.0, 3.0), (5e-4, 1.5e-3)
EPSILONS = (1 / 255, 2 / 255)
PHOTOS = "photos-mini/test"


def methods() -> dict[str, RunConfig]:
    """Name → configuration, but for length and learning rate."""
    fare, lore = fare_tiny(), lore_tiny()
    found = {"fare": fare}
    lore = replace(lore, anchor=replace(lore.anchor, initial_multiplier=1.0))
    found |= {f"lore rho={rho:g}": replace(lore, anchor=replace(lore.anchor, rho=rho)) for rho in RHOS}
    found |= {f"penalty weight={weight:g}": replace(fare, anchor=penalty(weight=weight).anchor) for weight in WEIGHTS}
    return found | {"multiplier held at 1": replace(lore, anchor=replace(lore.anchor, rho=RHOS[0], dual_lr=0.0))}


def run(name: str, recipe: RunConfig, args: argparse.Namespace) -> None:
    """Both pilots, then the better learning rate at full length."""
    common = replace(recipe, model=str(args.model), train_data=str(args.train_data), batch_size=args.batch_size, epochs=100, resume="auto")
    folder = args.output / name.replace(" ", "-")
    scores = {} if args.lr is None else {args.lr: 0.0}
    for lr in RATES if args.lr is None else ():
        pilot = train_once(replace(common, lr=lr, max_steps=args.pilot_steps, output=folder / f"pilot-{lr:g}"))
        (result,) = accuracies(pilot, [PHOTOS], "apgd-ce", (2 / 255,), args)
        scores[lr] = result["clean"]["accuracy"] + result["robust"][0]["accuracy"]
    best = max(scores, key=lambda lr: scores[lr])
    done = folder / "row.json"
    if done.exists():
        return
    started = time.monotonic()
    full = train_once(replace(common, lr=best, max_steps=args.steps, output=folder / "full"))
    lines = [json.loads(line) for line in (full / "metrics.jsonl").read_text().splitlines()]
    tail = lines[-len(lines) // 10 :]
    row: dict[str, Any] = {"method": name, "lr": best, "images": args.batch_size * args.steps, "seconds": round(time.monotonic() - started)}
    row |= {key: sum(line[key] for line in tail) / len(tail) for key in ("clean_distance", "violation_rate", "multiplier") if key in tail[0]}
    for label, result in zip(("photos", "cifar10"), accuracies(full, [PHOTOS, str(args.cifar10)], "apgd", EPSILONS, args), strict=True):
        for who, beside in (("", result), ("untouched ", result["reference"])):
            row[f"{who}{label} clean"] = beside["clean"]["accuracy"]
            row |= {f"{who}{label} {round(r['epsilon'] * 255)}/255": r["accuracy"] for r in beside["robust"]}
    done.write_text(json.dumps(row))
    print(json.dumps(row), flush=True)


def train_once(config: RunConfig) -> Path:
    """Train, unless that is done."""
    from seaanchor.train import train

    return config.output if (config.output / "export" / "open_clip_config.json").exists() else train(config)


def accuracies(run_folder: Path, sources: list[str], attack: str, epsilons: tuple[float, ...], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Clean and robust accuracy of a run on 500 images of each source."""
    from seaanchor.evaluation.run import Protocol, evaluate
    from seaanchor.evaluation.zeroshot import AttackPlan

    protocol = Protocol((AttackPlan(attack, "linf", epsilons, 10),), samples=500)  # type: ignore[arg-type]
    return evaluate(str(run_folder / "export"), sources, protocol, args.output / "evaluation", reference=str(args.model), skip_existing=True)


def table(output: Path) -> None:
    """All finished rows as CSV, and printed."""
    rows = [json.loads(file.read_text()) for file in sorted(output.glob("*/row.json"))]
    if not rows:
        return
    with (output / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    print((output / "table.csv").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--model", "--train-data", "--cifar10"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/lore-against-fare"))
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--pilot-steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--only", help="run just the methods whose names start with one of these, joined by commas")
    parser.add_argument("--lr", type=float, help="skip the pilots")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    for name, recipe in methods().items():
        if args.only is None or any(name.startswith(only) for only in args.only.split(",")):
            run(name, recipe, args)
    table(args.output)


if __name__ == "__main__":
    main()
