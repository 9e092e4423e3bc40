"""The rows of a design: every arm trained and measured, mixtures of weights, the untouched model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from seaanchor.config.schema import RunConfig
from seaanchor.errors import SeaAnchorError
from seaanchor.sweeps.arms import Arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure, write_numbers
from seaanchor.utils.log import log
from studies.declare import Arms, Design
from studies.known_rows import dependencies, keep, known
from studies.mixing import mixed, mixture
from studies.training_logs import computed_in
from studies.workspace import ELSEWHERE, Workspace

UNTOUCHED = "untouched"


def rows_of(design: Design, arms: Arms, workspace: Workspace, known: Sequence[Row] = ()) -> list[Row]:
    """Every arm with every seed; what is there already is read.

    Args:
        design: says where and what is measured.
        arms: its own, or those that its claims need besides.
        workspace: of the study; numbers.csv grows with each arm.
        known: rows of the study so far.
    """
    rows: list[Row] = []
    settings = {name: design.pool.settings(config, workspace) for name, config in arms.items()}
    for seed in workspace.seeds:
        for name, config in settings.items():
            log.info(f"{name}, seed {seed}")
            rows += _rows_of_arm(design, name, config, seed, workspace)
            write_numbers([*known, *rows], workspace.output / "numbers.csv")
    return rows


def _rows_of_arm(design: Design, name: str, config: RunConfig, seed: int, workspace: Workspace) -> list[Row]:
    """The rows of one arm, with what its log tells."""

    def now() -> tuple[list[Row], Path]:
        run = _train(design, name, config, seed, workspace)
        rows = measured(design, Arm(name, config), seed, run / "export", workspace)
        if design.of_log:
            read = {key: number.of(run) for key, number in design.of_log.items()}
            rows = [replace(row, numbers=row.numbers | read) if row.dataset == design.photos else row for row in rows]
        return rows, run

    return _kept_or(now, design, Arm(name, config), name, seed, workspace)


def _kept_or(
    now: Callable[[], tuple[list[Row], Path]],
    design: Design,
    arm: Arm,
    trained: str,
    seed: int,
    workspace: Workspace,
    **besides: float,
) -> list[Row]:
    """The rows of one model: those that are kept of it, or trained and measured now, and then kept.

    Args:
        now: gives the rows, and the run of the arm that was trained.
        design: says where rows are kept.
        arm: the model as it is called in tables.
        trained: the arm of the design whose weights it has.
        seed: of the training.
        workspace: of the study.
        besides: what its rows depend on besides the training and what is measured.
    """
    keeps = design.pool.kept(workspace) if trained not in design.starts_from else None
    specs = specs_of(design, workspace)
    depends_on = dependencies(arm.config, seed, specs, design.of_log) | besides if keeps else {}
    if keeps and (found := known(keeps, arm.name, seed, depends_on, [s for spec in specs for s in spec.sources])):
        workspace.keep(trained, arm.config)
        return found
    rows, run = now()
    if keeps:
        labels = {path: label for label, path in workspace.elsewhere().items() if label in dict(workspace.extra)}
        named = [replace(row, dataset=labels.get(row.dataset, row.dataset)) for row in rows]
        keep(keeps, arm.name, seed, depends_on, named, computed_in(run))
    return rows


def _train(design: Design, name: str, config: RunConfig, seed: int, workspace: Workspace) -> Path:
    """The run of an arm, from the export of another where the design says so; its recipe is noted."""
    before = design.starts_from.get(name)
    if before is None:
        workspace.keep(name, config)
        return design.pool.train(name, config, seed, workspace)
    workspace.keep(name, config, model=f"the export of: {before}")
    start = workspace.output / f"seed-{seed}" / before / "export"
    return design.pool.train(name, replace(config, model=str(start)), seed, workspace)


def mixtures_of(design: Design, arms: Arms, workspace: Workspace) -> list[Row]:
    """Weights between the reference and every trained arm, as arms of their own."""
    settings = {name: design.pool.settings(config, workspace) for name, config in arms.items()}
    assert design.mixtures is not None, "a design without mixtures has no such rows"
    return [
        row
        for name, config in settings.items()
        for seed in workspace.seeds
        for alpha in design.mixtures.alphas
        for row in _rows_of_mixture(design, Arm(name, config), alpha, seed, workspace)
    ]


def _rows_of_mixture(design: Design, arm: Arm, alpha: float, seed: int, workspace: Workspace) -> list[Row]:
    # a study of mixtures alone keeps them in its own folder; others share what they are mixed of, and the mixtures
    alone = design.mixtures is not None and design.mixtures.alone
    folder = workspace.output if alone else design.pool.folder(workspace)
    made = replace(arm, name=mixture(arm.name, alpha))

    def now() -> tuple[list[Row], Path]:
        run = _train(design, arm.name, arm.config, seed, workspace)
        model, between = run / "export", folder / "mixed" / f"seed-{seed}" / f"{arm.name} alpha={alpha:g}"
        if alpha != 1:
            model = mixed(arm.config.model, str(model), alpha, between)
        return measured(design, made, seed, model, workspace), run

    return _kept_or(now, design, made, arm.name, seed, workspace, alpha=alpha)


def measured(design: Design, arm: Arm, seed: int, model: str | Path, workspace: Workspace) -> list[Row]:
    """The rows of one model under the design's specs."""
    return measure(arm, seed, model, specs_of(design, workspace), design.pool.folder(workspace))


def specs_of(design: Design, workspace: Workspace) -> list[EvaluationSpec]:
    """What is measured, with the sets elsewhere by their folders."""
    return [replace(spec, sources=_sources(spec, workspace)) for spec in design.specs]


def _sources(spec: EvaluationSpec, workspace: Workspace) -> tuple[str, ...]:
    return tuple(path for source in spec.sources for path in _paths(source, workspace))


def _paths(source: str, workspace: Workspace) -> tuple[str, ...]:
    """A data set, all that `{elsewhere}` stands for, or the one that is called so: `{imagenet}`.

    Raises:
        SeaAnchorError: none is called so.
    """
    sets = workspace.elsewhere()
    if source == ELSEWHERE:
        return tuple(sets.values())
    if not source.startswith("{"):
        return (source,)
    name = source.strip("{}")
    if name not in sets:
        raise SeaAnchorError(f"no photos of the set {name}", "a folder of them", f"add --extra {name}=FOLDER")
    return (sets[name],)


def untouched(rows: Sequence[Row]) -> list[Row]:
    """The reference's own numbers as an arm of their own, once a data set."""
    seen = {row.dataset: row for row in reversed(rows)}
    return [replace(row, arm=UNTOUCHED, seed=-1, numbers=row.reference) for row in reversed(seen.values())]
