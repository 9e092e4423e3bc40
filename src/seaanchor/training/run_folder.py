"""The run folder: what is in it.

config.yaml (resolved), env.json, metrics.jsonl, checkpoints/step-*.safetensors (the last two), export/,
head.safetensors where a probe or a head from a file was used, tensorboard/ if asked for.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaanchor.encoders.head_file import NAME
from seaanchor.errors import SeaAnchorError
from seaanchor.utils.checkpoint import load_state, save_state
from seaanchor.utils.json_text import not_finite, to_json, with_nulls
from seaanchor.utils.log import log, warn_once
from seaanchor.utils.plain_files import parse_json
from seaanchor.utils.records import from_plain

EVALS = ("eval", "eval_averaged")
LAST_STEP = 2**53  # beyond it a float does not count any more


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.root / "metrics.jsonl"

    @property
    def export(self) -> Path:
        """The exported model."""
        return self.root / "export"

    @property
    def head(self) -> Path:
        """The linear head that the run used, if it is not the model's own."""
        return self.root / NAME

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted((self.root / "checkpoints").glob("step-*.safetensors"))

    def save(self, step: int, state: dict[str, Any], keep: int = 2) -> Path:
        """Write a checkpoint and drop all but the last `keep`."""
        path = self.checkpoint(step)
        save_state(path, state)
        for old in self.checkpoints()[:-keep]:
            old.unlink()
        return path

    def checkpoint(self, step: int) -> Path:
        """Where the checkpoint of one step lies."""
        return self.root / "checkpoints" / f"step-{step:08d}.safetensors"

    def load(self, step: int) -> dict[str, Any]:
        """The checkpoint of one step.

        Raises:
            SeaAnchorError: it is missing or incomplete.
        """
        return load_state(self.checkpoint(step))

    def latest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint, a damaged one is skipped for the one before; None where there are none.

        Raises:
            SeaAnchorError: there are some, and none of them is whole.
        """
        checkpoints = self.checkpoints()
        for path in reversed(checkpoints):
            try:
                return load_state(path)
            except SeaAnchorError as error:
                log.info(f"{error.found}; trying the checkpoint before it")
        if checkpoints:
            raise SeaAnchorError(
                f"none of the {len(checkpoints)} checkpoints in {checkpoints[0].parent} is whole",
                "at least one to go on from",
                "restore one from a copy, or begin at step 0 in another --output",
            )
        return None

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl, with null for what is not finite, which is said once for each name."""
        for place in not_finite(row):
            name = place.partition(" ")[0]
            warn_once(f"{name} in {self.metrics} is not finite: null stands in its place")
        try:
            with self.metrics.open("a") as file:
                file.write(to_json(with_nulls(row)) + "\n")
        except OSError as error:
            raise SeaAnchorError(
                f"{self.metrics} could not be written: {error.strerror}",
                "free disk space",
                "free some and use --resume auto",
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """What was logged so far; a line cut short by a kill or that is no row is dropped, and a number that was not
        finite."""
        rows = []
        for line in self.lines():
            with contextlib.suppress(ValueError):
                rows.append({name: value for name, value in log_row(line).items() if value is not None})
        return rows

    def lines(self) -> list[str]:
        """The lines of metrics.jsonl; none where it is not there."""
        return self.metrics.read_text(encoding="utf-8", errors="replace").splitlines() if self.metrics.is_file() else []


def steps_and_images(rows: Sequence[Mapping[str, Any]]) -> tuple[int | None, int | None]:
    """Steps that a log tells of, and the images seen in them, repeats counted; None where it does not say, as those of
    older versions."""
    steps = max((row["step"] for row in rows), default=None)
    seen = [row["images_seen"] for row in rows if row["step"] == steps and type(row.get("images_seen")) is int]
    return steps, max(seen, default=None)


def log_row(line: str) -> dict[str, Any]:
    """One row of the log: its step, numbers by their names, and under `eval` and `eval_averaged` those of each
    evaluation by its data set.

    Raises:
        ValueError: it is no such row.
    """
    row = parse_json(line)
    if not isinstance(row, dict) or type(row.get("step")) is not int or not 0 <= row["step"] < LAST_STEP:
        raise ValueError("it has no step")
    for name, value in row.items():
        rows = from_plain(dict[str, dict[str, float | None]], value, name) if name in EVALS else {"": {name: value}}
        for inside in rows.values():
            for key, number in inside.items():
                if number is not None:
                    from_plain(float, number, key)
    return row
