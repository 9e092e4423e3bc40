"""What shared runs logged while they trained."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from seaanchor.sweeps.engine import Row
from studies.workspace import PHOTOS, Workspace


def noise_folder(name: str, seed: int, workspace: Workspace) -> Path:
    """Where a shared run against noise lies."""
    return workspace.shared("robust") / f"seed-{seed}" / name


def trace(name: str, seed: int, workspace: Workspace, key: str) -> tuple[list[int], list[float]]:
    """A logged number of a shared run over its steps; `|` joins the keys of nested records."""
    return read_log(noise_folder(name, seed, workspace) / "metrics.jsonl", key)


def read_log(log: Path, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of a number of a run's log; `|` joins the keys of nested records."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = [(line["step"], _inside(line, key)) for line in lines]
    return [step for step, value in found if value is not None], [value for _, value in found if value is not None]


def computed_in(run: Path) -> dict[str, str]:
    """The device and the precisions that a run was computed in."""
    return json.loads((run / "env.json").read_text()).get("computed", {})


def _inside(line: dict[str, Any], key: str) -> Any:
    value: Any = line
    for part in key.split("|"):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def logged(workspace: Workspace, key: str, last: float) -> Callable[[Row], float | None]:
    """A reader of the mean of a logged number over the last share of a shared run's log."""

    def read(row: Row) -> float | None:
        if row.seed < 0 or row.dataset != PHOTOS:
            return None
        values = trace(row.arm, row.seed, workspace, key)[1]
        return mean(values[-max(1, round(last * len(values))) :]) if values else None

    return read
