"""Train every arm with every seed, evaluate each beside the untouched model, and keep the numbers as a table that grows
with each."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from seaanchor.evaluation.results import EvaluationResult
from seaanchor.evaluation.run import Protocol, evaluate
from seaanchor.evaluation.statistics import Share
from seaanchor.sweeps.arms import Arm, drop_checkpoints, run_arm
from seaanchor.sweeps.numbers import Numbers, numbers_of
from seaanchor.utils.checkpoint import write_atomic
from seaanchor.utils.json_text import to_json
from seaanchor.utils.log import log


@dataclass(frozen=True)
class EvaluationSpec:
    """What is measured on a model: data sets, each with its protocol."""

    sources: tuple[str, ...]
    protocol: Protocol


@dataclass(frozen=True)
class Row:
    """One model on one data set: the numbers, and the untouched model's beside them. Seed −1 is for what no seed
    decides."""

    arm: str
    seed: int
    dataset: str
    numbers: Numbers
    reference: Numbers
    settings: Mapping[str, Any] = field(default_factory=dict)


def run_arms(
    arms: Sequence[Arm], seeds: Sequence[int], specs: Sequence[EvaluationSpec], output: Path, *, export: str = "export"
) -> list[Row]:
    """Every arm with every seed; what is there already is read.

    Args:
        arms: what is trained.
        seeds: of data order, attacks and initial weights.
        specs: what is measured on each.
        output: folder; runs go to `seed-N/ARM`.
        export: which weights of a run: `export`, or `export-averaged` where a run keeps an average.

    Returns:
        A row for every arm, seed and data set.
    """
    rows: list[Row] = []
    for seed in seeds:
        for arm in arms:
            log.info(f"{arm.name}, seed {seed}")
            run = run_arm(replace(arm, config=replace(arm.config, seed=seed)), output / f"seed-{seed}")
            drop_checkpoints(run)
            rows += measure(arm, seed, run / export, specs, output)
            write_numbers(rows, output / "numbers.csv")
    return rows


def measure(
    arm: Arm, seed: int, model: str | Path, specs: Sequence[EvaluationSpec], output: Path, name: str | None = None
) -> list[Row]:
    """The rows of one model, by its folder or its name.

    Args:
        arm: its configuration names the untouched model.
        seed: that the model was trained with; −1 where no seed decides anything.
        model: what is measured.
        specs: data sets, each with its protocol.
        output: folder; result files go to `evaluation`, and what is there is read.
        name: in the rows, where it is not the arm's.
    """
    rows = []
    for spec in specs:
        results = evaluate(
            str(model),
            spec.sources,
            spec.protocol,
            output / "evaluation",
            reference=arm.config.model,
            skip_existing=True,
        )
        rows += [row_of(name or arm.name, seed, result, arm.settings) for result in results]
    return rows


def row_of(name: str, seed: int, result: EvaluationResult, settings: Mapping[str, Any]) -> Row:
    """A result's numbers as a row."""
    return Row(name, seed, result.dataset, numbers_of(result), numbers_of(result.reference or result), settings)


def write_numbers(rows: Sequence[Row], path: Path) -> None:
    """All numbers, one a line: arm, seed, data set, measure, value, interval, n, the untouched model's value."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "seed", "dataset", "measure", "value", "low", "high", "n", "untouched"])
    for row in rows:
        for name, found in row.numbers.items():
            beside = row.reference[name].accuracy if name in row.reference else None
            numbers = (found.accuracy, found.low, found.high, found.n, beside)
            shown = ["" if number is None else number for number in numbers]
            writer.writerow([row.arm, row.seed, row.dataset, name, *shown])
    write_atomic(path, text.getvalue())


def save_rows(rows: Sequence[Row], path: Path) -> None:
    """Rows as JSON, for figures that are drawn later."""
    write_atomic(path, to_json([asdict(row) for row in rows], indent=1))


def read_rows(path: Path) -> list[Row]:
    """What `save_rows` wrote."""
    return [
        Row(**row | {"numbers": _shares(row["numbers"]), "reference": _shares(row["reference"])})
        for row in json.loads(path.read_text())
    ]


def _shares(numbers: Mapping[str, Any]) -> Numbers:
    return {name: Share(**share) for name, share in numbers.items()}
