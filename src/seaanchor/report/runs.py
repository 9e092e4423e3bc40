"""Training runs as a report reads them: settings, log lines, and what `seaanchor steer` found."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seaanchor.config.run_settings import read_settings, settings_as
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.result_files import damaged, read_json
from seaanchor.evaluation.results import Environment
from seaanchor.evaluation.steering_record import SteeringCurve
from seaanchor.training.run_folder import RunFolder, log_row
from seaanchor.utils.paths import portable
from seaanchor.utils.records import BadValueError, from_plain

EXPORTS = {"export": "", "export-averaged": " (averaged)"}
"""Folders of trained models in a run, with what is added to the run's name for each."""


@dataclass(frozen=True)
class PartSettings:
    """The settings of one part (objective, anchor, perturbation or adapter) that the page shows; None where the part
    has no such setting."""

    kind: str | None = None
    rho: float | None = None
    weight: float | None = None
    space: str | None = None
    norm: str | None = None
    epsilon: Any = None
    num_steps: int | None = None
    last_blocks: int | None = None


@dataclass(frozen=True)
class RunSettings:
    """The settings of a run that the page shows; None where config.yaml has none."""

    model: str | None = None
    pretrained: str | None = None
    train_data: str | None = None
    class_names: str | None = None
    epochs: int | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    primal_steps: int | None = None
    lr: Any = None
    seed: int | None = None
    objective: PartSettings = field(default_factory=PartSettings)
    anchor: PartSettings = field(default_factory=PartSettings)
    perturbation: PartSettings = field(default_factory=PartSettings)
    adapter: PartSettings = field(default_factory=PartSettings)


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        label: what it is called on the page.
        folder: where it lies.
        settings: the settings that the page shows.
        config: all settings, as they are in config.yaml.
        rows: log lines of training, in order.
        evaluations: log lines of the evaluations while training.
        steering: what `seaanchor steer` found, or None.
        step: steps done.
        total: steps of the whole run; None if that is not known.
        finished: whether the trained model was exported.
        environment: versions it ran with.
        computed: device and precisions that its numbers come of, in words; empty where that was not written down.
    """

    label: str
    folder: Path
    settings: RunSettings
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    evaluations: tuple[dict[str, Any], ...]
    steering: SteeringCurve | None
    step: int
    total: int | None
    finished: bool
    environment: Environment
    computed: str = ""


def read_run(folder: Path) -> Run:
    """A run folder.

    Raises:
        SeaAnchorError: a file of it is cut short, damaged, or not arranged as Sea Anchor writes it.
    """
    home = RunFolder(folder)
    config = read_settings(home.config)
    settings = settings_as(RunSettings, portable(config), home.config)
    lines = list(_rows(home))
    finished = any((folder / name).is_dir() for name in EXPORTS)
    step = max((row["step"] for row in lines), default=0)
    environment, computed = _environment(folder / "env.json")
    return Run(
        label=folder.resolve().name,
        folder=folder,
        settings=settings,
        config=portable(config),
        rows=tuple(_known(row) for row in lines if "eval" not in row),
        evaluations=portable(tuple(row for row in lines if "eval" in row)),
        steering=_steering(folder / "steering.json"),
        step=step,
        total=step if finished else _total(settings),
        finished=finished,
        environment=environment,
        computed=computed,
    )


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """A line of the log without what was not finite."""
    return {name: value for name, value in row.items() if value is not None}


def _steering(file: Path) -> SteeringCurve | None:
    if not file.is_file():
        return None
    try:
        curve = from_plain(SteeringCurve, portable(read_json(file)))
    except BadValueError:
        curve = None
    if curve is None or not curve.rows:
        raise SeaAnchorError(f"{file} holds no curve", "what `seaanchor steer --data` writes", "run it again")
    return curve


def _environment(file: Path) -> tuple[Environment, str]:
    """What a run was computed with, and in which precision, in words: empty where that was not written down."""
    said = read_json(file) if file.is_file() else {}
    try:
        found = from_plain(Environment, said)
        computed = said.get("computed")
        words = "updates in {updates}, attacks in {attacks}, on {device}".format(**computed) if computed else ""
    except (BadValueError, TypeError, LookupError) as error:
        raise damaged(file, str(error)) from None
    return found, words


def _rows(home: RunFolder) -> Iterable[dict[str, Any]]:
    """Rows of the log; the last one may have been cut short by a kill, any other is an error."""
    lines = home.lines()
    for number, line in enumerate(lines, 1):
        try:
            yield log_row(line)
        except ValueError as error:
            if number < len(lines):
                raise damaged(home.metrics, f"line {number}: {error}") from None


def _total(settings: RunSettings) -> int | None:
    """Steps of the whole run in one process, by the settings and by how many images there are."""
    from seaanchor.data.sources import open_images

    if settings.train_data is None or settings.epochs is None or not settings.batch_size:
        return settings.max_steps
    try:
        names = settings.class_names
        count = len(open_images(settings.train_data, Path(names) if names else None).paths)
    except (SeaAnchorError, OSError):  # the data may be elsewhere by now
        return settings.max_steps
    longest = settings.epochs * math.ceil(count / settings.batch_size)
    return min(settings.max_steps or longest, longest)
