"""What a report is made from: run folders, evaluation folders and result files, read and checked."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seaanchor.config.schema import read_yaml
from seaanchor.errors import SeaAnchorError
from seaanchor.training.run_folder import RunFolder
from seaanchor.utils.paths import expanded, portable

FORMATS = (1, 2, 3)
EXPORTS = {"export": "", "export-averaged": " (averaged)"}
NAMED = 5  # files of each kind in a warning


@dataclass(frozen=True)
class Run:
    """A training run.

    Attributes:
        label: what it is called on the page.
        folder: where it lies.
        config: its settings; empty sections where the file has none.
        rows: log lines of training, in order.
        looks: log lines of the evaluations while training.
        steering: what `seaanchor steer` found, or None.
        step: batches done.
        total: batches of the whole run; None if that cannot be told.
        finished: whether the trained model was exported.
        environment: versions it ran with.
    """

    label: str
    folder: Path
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    looks: tuple[dict[str, Any], ...]
    steering: dict[str, Any] | None
    step: int
    total: int | None
    finished: bool
    environment: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One result file."""

    path: Path
    data: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One model of the page: its results, and the run that made it if that is known."""

    label: str
    results: tuple[Result, ...]
    run: Run | None = None


@dataclass(frozen=True)
class Sources:
    """Everything on one page; `entries` holds the models with or without results, `runs` each run once, `warnings` why
    results may not be comparable."""

    entries: tuple[Entry, ...]
    runs: tuple[Run, ...]
    warnings: tuple[str, ...] = ()


def read_sources(paths: Sequence[Path]) -> Sources:
    """Read run folders, evaluation folders and result files, in any mixture.

    Raises:
        SeaAnchorError: a path that is none of these or does not exist, nothing to show in it, or a file that is cut
            short.
    """
    if not paths:
        raise SeaAnchorError(
            "nothing to report on", "a run folder, an evaluation folder or a result file", "name at least one"
        )
    runs: list[Run] = []
    results: dict[Path, Result] = {}
    for path in dict.fromkeys(paths):
        if (path / "config.yaml").is_file():
            runs.append(_read_run(path))
            results |= _read_folder(path / "evaluation")
        else:
            results |= _read_results(path)
    for run in runs:
        if (
            not run.rows
            and run.steering is None
            and not any(_owner(r, [run]) or r.path.is_relative_to(run.folder) for r in results.values())
        ):
            found = f"the run in {run.folder} has logged nothing and was not evaluated"
            raise SeaAnchorError(found, "metrics.jsonl or evaluation/*.json", "let it train first")
    runs = [
        replace(run, label=label)
        for run, label in zip(
            runs, distinct([(run.label, run.folder.resolve().parent.name) for run in runs]), strict=True
        )
    ]
    return Sources(_entries(runs, list(results.values())), tuple(runs), _mixture(list(results.values())))


def _mixture(results: Sequence[Result]) -> tuple[str, ...]:
    """A warning that names the files where results were made by different versions, which may count differently."""
    made: dict[str, list[str]] = {}
    for result in results:
        versions = (result.data.get("environment") or {}).get("versions") or {}
        version = (result.data.get("protocol") or {}).get("seaanchor") or versions.get("seaanchor") or "unknown"
        made.setdefault(f"format {result.data['format']}, version {version}", []).append(result.path.name)
    if len(made) < 2:
        return ()
    named = "; ".join(
        f"{kind}: {', '.join(files[:NAMED])}{f' and {len(files) - NAMED} more' if len(files) > NAMED else ''}"
        for kind, files in made.items()
    )
    return (
        f"Results of different versions of Sea Anchor stand side by side and may not be comparable ({named}). "
        "Evaluate again with one version.",
    )


def _read_run(folder: Path) -> Run:
    home = RunFolder(folder)
    config = read_yaml(home.config)
    lines = [row for row in _lines(home.metrics) if isinstance(row, dict) and isinstance(row.get("step"), int)]
    rows = tuple(row for row in lines if "eval" not in row)
    looks = tuple(row for row in lines if "eval" in row)
    finished = any((folder / name).is_dir() for name in EXPORTS)
    step = max((row["step"] for row in lines), default=0)
    steering = read_json(folder / "steering.json") if (folder / "steering.json").is_file() else None
    if steering is not None and not (isinstance(steering, dict) and steering.get("rows")):
        raise SeaAnchorError(
            f"{folder / 'steering.json'} holds no curve", "what `seaanchor steer --data` writes", "run it again"
        )
    environment = read_json(folder / "env.json") if (folder / "env.json").is_file() else {}
    total = step if finished else _total(config)
    return Run(
        folder.resolve().name,
        folder,
        portable(config),
        rows,
        portable(looks),
        portable(steering),
        step,
        total,
        finished,
        environment,
    )


def _lines(file: Path) -> Iterable[Any]:
    """JSON lines; the last one may have been cut short by a kill, any other is an error."""
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines):
                raise _torn(file, f"line {number}") from None


def _total(config: dict[str, Any]) -> int | None:
    """Batches of the whole run in one process, by the settings and by how many images there are."""
    from seaanchor.data.sources import open_images

    limit = config.get("max_steps")
    try:
        names = config.get("class_names")
        count = len(open_images(config["train_data"], Path(names) if names else None).paths)
        longest = int(config["epochs"]) * math.ceil(count / int(config["batch_size"]))
    except (SeaAnchorError, KeyError, TypeError, ValueError, OSError):  # the data may be elsewhere by now
        return limit
    return min(limit or longest, longest)


def _read_results(path: Path) -> dict[Path, Result]:
    """Results in a file, in an evaluation folder, or in a folder that has one."""
    if path.is_file():
        data = read_json(path)
        if not _is_result(data):
            raise SeaAnchorError(
                f"{path} is no result file", "a file that `seaanchor evaluate` wrote", "name another file"
            )
        return {path.resolve(): Result(path, portable(_checked(data, path)))}
    if not path.is_dir():
        raise SeaAnchorError(
            f"{path} is missing", "a run folder, an evaluation folder or a result file", "correct the path"
        )
    found = _read_folder(path) or _read_folder(path / "evaluation")
    if not found:
        raise SeaAnchorError(
            f"{path} is no run folder and holds no results",
            "a folder with config.yaml, or with files that `seaanchor evaluate` wrote",
            "name the run folder, or evaluate first",
        )
    return found


def _read_folder(folder: Path) -> dict[Path, Result]:
    """The results in a folder; other JSON files are passed over."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    read = {file.resolve(): Result(file, read_json(file)) for file in files}
    return {path: Result(r.path, portable(_checked(r.data, r.path))) for path, r in read.items() if _is_result(r.data)}


def read_json(file: Path) -> Any:
    """Plain data.

    Raises:
        SeaAnchorError: the file cannot be read or is cut short.
    """
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise _torn(file, str(error)) from None


def _torn(file: Path, where: str) -> SeaAnchorError:
    return SeaAnchorError(
        f"{file} is cut short or damaged ({where})",
        "JSON as Sea Anchor wrote it",
        "remove it and evaluate again, or restore it",
    )


def _is_result(data: Any) -> bool:
    return isinstance(data, dict) and "dataset" in data and "model" in data and ("clean" in data or "suites" in data)


def _checked(data: dict[str, Any], file: Path) -> dict[str, Any]:
    if data.get("format") not in FORMATS:
        raise SeaAnchorError(
            f"{file} has format {data.get('format')}",
            f"format {' or '.join(map(str, FORMATS))}",
            "evaluate again with this version",
        )
    return data


def _entries(runs: Sequence[Run], results: Sequence[Result]) -> tuple[Entry, ...]:
    """One entry a model; untouched models that stand beside others as their reference get none of their own."""
    references = {r.data["reference"].get("pretrained") for r in results if r.data.get("reference")}
    grouped: dict[tuple[str, str], list[Result]] = {}
    names: dict[tuple[str, str], tuple[str, str]] = {}
    owners: dict[tuple[str, str], Run] = {}
    for run in runs:  # in the order they were named
        for suffix in EXPORTS.values():
            if made := [result for result in results if _owner(result, [run]) == suffix]:
                key = (str(run.folder), suffix)
                grouped[key], names[key], owners[key] = made, (run.label + suffix, ""), run
        if not any(key[0] == str(run.folder) for key in grouped):
            key = (str(run.folder), "")
            grouped[key], names[key], owners[key] = [], (run.label, ""), run
    for result in results:
        untouched = result.data.get("reference") is None and result.data.get("pretrained") in references
        if untouched or _owner(result, runs) is not None:
            continue
        key = (str(result.data["model"]), str(result.data.get("pretrained")))
        grouped.setdefault(key, []).append(result)
        names[key] = model_name(key[0]), key[1][:6]
    labels = distinct([names[key] for key in grouped])
    return tuple(
        Entry(label, tuple(found), owners.get(key)) for label, (key, found) in zip(labels, grouped.items(), strict=True)
    )


def _owner(result: Result, runs: Sequence[Run]) -> str | None:
    """What to add to the run's name if one of the runs made the model of this result, else None."""
    model = Path(expanded(_bare(str(result.data["model"]))))
    for run in runs:
        for name, suffix in EXPORTS.items():
            inside = (
                result.path.resolve().is_relative_to(run.folder.resolve()) and model.name == name
            )  # a folder may have moved as a whole
            if inside or model.resolve() == (run.folder / name).resolve():
                return suffix
    return None


def model_name(model: str) -> str:
    """A short name for a model: its last part, or the run's for an export.

    >>> model_name("runs/lore/export"), model_name("hf-hub:org/repo"), model_name("ViT-B-32")
    ('lore', 'repo', 'ViT-B-32')
    """
    path = Path(_bare(model))
    if path.name in EXPORTS and path.parent.name:
        return path.parent.name + EXPORTS[path.name]
    return path.name or model


def _bare(model: str) -> str:
    for prefix in ("timm:", "hf:", "local-dir:", "hf-hub:"):
        model = model.removeprefix(prefix)
    return model


def distinct(names: Sequence[tuple[str, str]]) -> list[str]:
    """Labels that differ: the second part stands beside the first where the first alone does not tell them apart, then
    a number.

    >>> distinct([("a", "x"), ("a", "y"), ("b", "x"), ("b", "x")])
    ['a (x)', 'a (y)', 'b (x)', 'b (x) 2']
    """
    count = Counter(first for first, _ in names)
    seen: Counter[str] = Counter()
    labels = []
    for first, second in names:
        label = f"{first} ({second})" if count[first] > 1 and second else first
        seen[label] += 1
        labels.append(label if seen[label] == 1 else f"{label} {seen[label]}")
    return labels
