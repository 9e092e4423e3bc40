"""The run folder: what is in it, and what may be written over.

config.yaml (resolved), env.json, metrics.jsonl, checkpoints/step-*.safetensors (the last two), export/, report files.
"""

import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seaanchor.checkpoint import load_state, save_state, write_atomic
from seaanchor.config import RunConfig, differences, read_yaml, to_dict
from seaanchor.errors import SeaAnchorError


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

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted((self.root / "checkpoints").glob("step-*.safetensors"))

    def save(self, step: int, state: dict, keep: int = 2) -> Path:
        """Write a checkpoint and drop all but the last `keep`."""
        path = self.root / "checkpoints" / f"step-{step:08d}.safetensors"
        save_state(path, state)
        for old in self.checkpoints()[:-keep]:
            old.unlink()
        return path

    def latest(self) -> dict | None:
        """The newest checkpoint that is whole; a torn one is passed over for the one before."""
        for path in reversed(self.checkpoints()):
            try:
                return load_state(path)
            except SeaAnchorError as error:
                print(f"{error.found}; trying the checkpoint before it", flush=True)
        return None

    def log(self, row: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        try:
            with self.metrics.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise SeaAnchorError(f"{self.metrics} could not be written: {error.strerror}", "free disk space", "free some and use --resume auto") from error

    def rows(self) -> list[dict[str, Any]]:
        """What was logged so far; a line cut short by a kill is dropped."""
        rows = []
        for line in self.metrics.read_text().splitlines() if self.metrics.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows


def open_run(config: RunConfig) -> tuple[RunFolder, dict | None]:
    """The run folder, ready to be written, and the checkpoint to go on from, if any.

    Raises:
        SeaAnchorError: the folder holds another run, or the same one with other settings.
    """
    import yaml

    folder = RunFolder(config.output)
    new = to_dict(config)
    if folder.config.exists():
        if config.resume != "auto":
            raise SeaAnchorError(f"{config.output} already holds a run", "an empty output folder", "use --resume auto to go on with it, or name another --output")
        if changed := differences(read_yaml(folder.config), new):
            raise SeaAnchorError(
                f"the run in {config.output} was started with other settings ({'; '.join(changed[:6])})",
                "the same settings when resuming",
                "undo the change, or start anew in another --output",
            )
    elif config.output.exists() and any(config.output.iterdir()):
        raise SeaAnchorError(f"{config.output} is not empty and holds no run", "an empty or new folder", "name another --output")
    state = folder.latest() if config.resume == "auto" else None
    write_atomic(folder.config, yaml.safe_dump(new, sort_keys=False))
    write_atomic(config.output / "env.json", json.dumps(environment(), indent=2))
    done = state["step"] if state else 0
    kept = [row for row in folder.rows() if row["step"] <= done]
    write_atomic(folder.metrics, "".join(json.dumps(row) + "\n" for row in kept))
    return folder, state


def environment() -> dict[str, Any]:
    """Versions and hardware, for a bug report."""
    versions = {}
    for package in ("seaanchor", "torch", "torchvision", "open_clip_torch", "timm", "accelerate", "transformers", "pyautoattack", "numpy", "pillow"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {"python": platform.python_version(), "system": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count(), "versions": versions}
