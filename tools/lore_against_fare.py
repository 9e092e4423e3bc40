"""LORE against FARE and against the naive penalty: same model, photos, batches and attack; two learning rates each.

python tools/lore_against_fare.py --model EXPORT --train-data TINY_IMAGENET/train --cifar10 CIFAR/test --output runs/lore-against-fare

Every run is resumable and skipped when it is done; `--only NAME` runs one, so that several can share a machine. The table is made of
whatever is there. Accuracies are under APGD-CE, then targeted APGD-DLR.
"""

import argparse
import csv
import json
import time
from dataclasses import replace
from pathlib import Path

from seaanchor.config import RunConfig
from seaanchor.recipes import fare_tiny, lore_tiny, penalty

RHOS, WEIGHTS, RATES = (0.015, 0.03), (1.0, 3.0), (5e-4, 1.5e-3)
EPSILONS = (1 / 255, 2 / 255, 4 / 255)


def plan(args: argparse.Namespace) -> dict[str, RunConfig]:
    """Name → configuration of every run."""
    base, lore = fare_tiny(), lore_tiny()
    base = replace(base, model=str(args.model), train_data=str(args.train_data), max_steps=args.steps, batch_size=args.batch_size, epochs=100, resume="auto")
    runs = {}
    for lr in RATES:
        runs[f"fare lr={lr:g}"] = replace(base, lr=lr)
        for rho in RHOS:
            runs[f"lore rho={rho:g} lr={lr:g}"] = replace(base, lr=lr, anchor=replace(lore.anchor, rho=rho), primal_steps=lore.primal_steps)
        for weight in WEIGHTS:
            runs[f"penalty weight={weight:g} lr={lr:g}"] = replace(base, lr=lr, anchor=penalty(weight=weight).anchor)
    frozen = replace(lore.anchor, rho=RHOS[1], dual_lr=0.0)
    runs["without dual step"] = replace(base, lr=RATES[1], anchor=frozen, primal_steps=lore.primal_steps)
    return {name: replace(config, output=args.output / name.replace(" ", "_")) for name, config in runs.items()}


def run(name: str, config: RunConfig, args: argparse.Namespace) -> None:
    """Train and evaluate one run, and write its row."""
    from seaanchor.train import train

    done = config.output / "row.json"
    if done.exists():
        return
    started = time.monotonic()
    train(config)
    seconds = time.monotonic() - started
    rows = [json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()]
    row = {"run": name, "seconds": round(seconds), "images": config.batch_size * config.max_steps}
    row |= {"violation": rows[-1]["violation_rate"], "multiplier": rows[-1].get("multiplier", ""), "cosine": rows[-1]["cosine"]}
    done.write_text(json.dumps(row | measure(str(config.output / "export"), args)))


def measure(model: str, args: argparse.Namespace) -> dict[str, float]:
    """Clean and robust accuracy on both sets."""
    from seaanchor.evaluation.run import Protocol, evaluate
    from seaanchor.evaluation.zeroshot import AttackPlan

    protocol = Protocol((AttackPlan("apgd", "linf", EPSILONS, 10),), samples=500)
    row = {}
    for label, source in (("photos", "photos-mini/test"), ("cifar10", str(args.cifar10))):
        (result,) = evaluate(model, [source], protocol, args.output / "evaluation", reference=str(args.model), skip_existing=True)
        for who, beside in (("", result), ("base ", result["reference"])):
            row[f"{who}{label} clean"] = beside["clean"]["accuracy"]
            row |= {f"{who}{label} {round(r['epsilon'] * 255)}/255": r["accuracy"] for r in beside["robust"]}
        row[f"{label} constant"] = result["constant_predictor"]
    return row


def table(runs: dict[str, RunConfig], output: Path) -> None:
    """All finished rows as CSV, and printed."""
    rows = [json.loads((config.output / "row.json").read_text()) for config in runs.values() if (config.output / "row.json").exists()]
    if not rows:
        return
    with (output / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print((output / "table.csv").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--model", "--train-data", "--cifar10"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/lore-against-fare"))
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--only", help="run just the names that start with one of these, joined by commas")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    runs = plan(args)
    for name, config in runs.items():
        if args.only is None or any(name.startswith(only) for only in args.only.split(",")):
            run(name, config, args)
    table(runs, args.output)


if __name__ == "__main__":
    main()
