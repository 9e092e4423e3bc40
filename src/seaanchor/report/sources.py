"""What a report is made from: run folders, evaluation folders and result files, read and checked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.result_files import decode, is_result, read_json
from seaanchor.evaluation.results import EvaluationResult
from seaanchor.report.runs import EXPORTS, Run, read_run
from seaanchor.utils.paths import expanded, portable

NAMED = 5  # files of each kind in a warning


@dataclass(frozen=True)
class ResultFile:
    """One result file: where it lies, and what it holds."""

    path: Path
    result: EvaluationResult


@dataclass(frozen=True)
class Entry:
    """One model of the page: its results, and the run that made it if that is known."""

    label: str
    results: tuple[ResultFile, ...]
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
    results: dict[Path, ResultFile] = {}
    for path in dict.fromkeys(paths):
        if (path / "config.yaml").is_file():
            runs.append(read_run(path))
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
    return Sources(_entries(runs, list(results.values())), tuple(runs), _warnings(list(results.values())))


def _warnings(results: Sequence[ResultFile]) -> tuple[str, ...]:
    return _mixture(results) + _other_heads(results)


def _other_heads(results: Sequence[ResultFile]) -> tuple[str, ...]:
    """A warning for every data set on which models answer by different heads."""
    used: dict[str, dict[str, list[str]]] = {}
    for result in results:
        head, dataset = result.result.protocol.head, result.result.dataset
        name = head.kind + (f" {head.digest}" if head.digest else "")
        used.setdefault(dataset, {}).setdefault(name, []).append(result.path.name)
    return tuple(
        f"Results on {dataset} are of different heads, and differences between them are of model and head together "
        f"({'; '.join(f'{name}: {_some(files)}' for name, files in heads.items())})."
        for dataset, heads in used.items()
        if len(heads) > 1
    )


def _some(files: Sequence[str]) -> str:
    return ", ".join(files[:NAMED]) + (f" and {len(files) - NAMED} more" if len(files) > NAMED else "")


def _mixture(results: Sequence[ResultFile]) -> tuple[str, ...]:
    """A warning that names the files where results were made by different versions, which may count differently."""
    made: dict[str, list[str]] = {}
    for result in results:
        found = result.result
        version = found.protocol.seaanchor or found.environment.versions.get("seaanchor") or "unknown"
        made.setdefault(f"format {found.format}, version {version}", []).append(result.path.name)
    if len(made) < 2:
        return ()
    named = "; ".join(f"{kind}: {_some(files)}" for kind, files in made.items())
    return (
        f"Results of different versions of Sea Anchor are side by side and may not be comparable ({named}). "
        "Evaluate again with one version.",
    )


def _read_results(path: Path) -> dict[Path, ResultFile]:
    """Results in a file, in an evaluation folder, or in a folder that has one."""
    if path.is_file():
        data = read_json(path)
        if not is_result(data):
            raise SeaAnchorError(
                f"{path} is no result file", "a file that `seaanchor evaluate` wrote", "name another file"
            )
        return {path.resolve(): ResultFile(path, decode(portable(data), str(path)))}
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


def _read_folder(folder: Path) -> dict[Path, ResultFile]:
    """The results in a folder; other JSON files are passed over."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    read = [(file, read_json(file)) for file in files]
    return {
        file.resolve(): ResultFile(file, decode(portable(data), str(file))) for file, data in read if is_result(data)
    }


def _entries(runs: Sequence[Run], results: Sequence[ResultFile]) -> tuple[Entry, ...]:
    """One entry a model; untouched models that are the reference of others get none of their own."""
    references = {r.result.reference.pretrained for r in results if r.result.reference}
    grouped: dict[tuple[str, str], list[ResultFile]] = {}
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
        untouched = result.result.reference is None and result.result.pretrained in references
        if untouched or _owner(result, runs) is not None:
            continue
        key = (result.result.model, result.result.pretrained)
        grouped.setdefault(key, []).append(result)
        names[key] = model_name(key[0]), key[1][:6]
    labels = distinct([names[key] for key in grouped])
    return tuple(
        Entry(label, tuple(found), owners.get(key)) for label, (key, found) in zip(labels, grouped.items(), strict=True)
    )


def _owner(result: ResultFile, runs: Sequence[Run]) -> str | None:
    """What to add to the run's name if one of the runs made the model of this result, else None."""
    model = Path(expanded(_bare(result.result.model)))
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
    """Labels that differ: the second part is added to the first where the first alone does not distinguish them, then
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
