"""What the page says in words: each run, the checks, the protocol, papers and versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seaanchor.evaluation.advice import EXPORTS, evaluation_command
from seaanchor.evaluation.results import Environment, EvaluationResult, ProtocolRecord
from seaanchor.plotting.svg import swatch
from seaanchor.report.checks import checks_text, named_checks
from seaanchor.report.runs import Run, RunSettings
from seaanchor.report.sources import Entry, Sources
from seaanchor.report.tables import Dataset
from seaanchor.training.progress import duration
from seaanchor.utils.paths import portable
from seaanchor.utils.records import to_plain


@dataclass(frozen=True)
class RunLine:
    """A run in words: its parts, its facts as (name, text), what is not finished, and else how it is evaluated."""

    label: str
    swatch: str
    parts: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    unfinished: str
    evaluate: str = ""


@dataclass(frozen=True)
class CheckLine:
    """The self-checks of one model on one data set: (name, passed, detail) each, what else the file says, and
    how many passed."""

    label: str
    dataset: str
    checks: tuple[tuple[str, bool, str], ...]
    notes: tuple[str, ...]
    summary: str

    @property
    def failed(self) -> int:
        """How many checks did not pass."""
        return sum(not passed for _, passed, _ in self.checks)


def run_line(run: Run, number: int) -> RunLine:
    """A run in words."""
    settings = run.settings
    seconds = sum(row["seconds"] for row in run.rows if "seconds" in row)
    steps = f"{run.step:,}" if run.finished or run.total is None else f"{run.step:,} of {run.total:,}"
    facts = (
        ("starts from", " ".join(filter(None, (settings.model, settings.pretrained)))),
        ("trained on", _text(settings.train_data)),
        ("steps", steps),
        ("batch size", _text(settings.batch_size)),
        ("updates a step", _text(settings.primal_steps)),
        ("learning rate", f"{settings.lr:g}" if isinstance(settings.lr, float) else _text(settings.lr)),
        ("time in training", _spent(seconds)),
        ("seed", _text(settings.seed)),
    )
    of = "" if run.total is None else f" of {run.total:,}"
    unfinished = (
        ""
        if run.finished
        else f"{run.label} has not finished: it has reached step {run.step:,}{of}, and there is no export yet."
    )
    command = evaluation_command(run.folder) if any((run.folder / name).is_dir() for name in EXPORTS) else ""
    return RunLine(run.label, swatch(number), _parts(settings), facts, unfinished, portable(command))


def _spent(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.1f} s" if seconds else "not logged"


def _text(value: object) -> str:
    return "?" if value is None else str(value)


def _parts(settings: RunSettings) -> tuple[str, ...]:
    """Objective, anchor, perturbation and adapter, each with its main setting."""
    anchor, attack = settings.anchor, settings.perturbation
    bound, strength = _text(anchor.kind), _text(attack.kind)
    if anchor.kind == "lagrangian":
        bound += f", ρ = {anchor.rho or 0:g}"
    elif anchor.kind in ("penalty", "kl"):
        bound += f", weight {anchor.weight or 0:g}"
    if attack.kind in ("pgd", "apgd"):
        strength += f", ε = {attack.epsilon}, {attack.num_steps} steps"
    moves = _text(settings.adapter.kind)
    if settings.adapter.last_blocks is not None:
        moves += f", {settings.adapter.last_blocks}"
    return _text(settings.objective.kind), bound, strength, moves


def check_lines(tables: Sequence[Dataset]) -> list[CheckLine]:
    """Self-checks, notes and skipped images of every result on the page, the reference's with it."""
    return [
        _checks_of(found.entry.label, table.name, file.result)
        for table in tables
        for found in table.found
        for file in found.results
    ]


def _checks_of(label: str, dataset: str, result: EvaluationResult) -> CheckLine:
    checks = tuple((name, check.passed, check.detail) for name, check in named_checks(result))
    notes = (*result.notes, *filter(None, (result.skipped,)))
    return CheckLine(label, dataset, checks, notes, checks_text(result))


def protocols(entries: Sequence[Entry]) -> list[tuple[str, str, str, str]]:
    """(model, data set, file, everything that decides the numbers) of each result."""
    rows = []
    for entry in entries:
        for result in entry.results:
            found = result.result
            data = {"protocol": _given(found.protocol), "environment": _given(found.environment)}
            rows.append((entry.label, found.dataset, result.path.name, as_yaml(data)))
    return rows


def _given(record: ProtocolRecord | Environment) -> dict[str, Any]:
    """A record as plain data, without what its file does not say."""
    return {key: value for key, value in to_plain(record).items() if value not in (None, [], {})}


def as_yaml(data: Any) -> str:
    """Plain data as YAML, with short lists on one line."""
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


PAPERS = {
    "LORE": "Khodabandeh, Afzali, Afsharrad, Mousavi, Lall, Amini, Moosavi-Dezfooli: LORE: "
    "Lagrangian-Optimized Robust Embeddings for Visual Encoders, "
    "2025, arXiv 2505.18884.",
    "FARE": "Schlarmann, Singh, Croce, Hein: Robust CLIP: Unsupervised Adversarial Fine-Tuning of Vision "
    "Embeddings for Robust Large Vision-Language "
    "Models, ICML 2024, arXiv 2402.12336.",
    "TeCoA": "Mao, Geng, Yang, Wang, Vondrick: Understanding Zero-Shot Adversarial Robustness for "
    "Large-Scale Models, ICLR 2023, arXiv 2212.07016.",
    "preference optimization": "Afzali, Khodabandeh, Rasekh, JafariNodeh, Kazemi, Gottschalk: Aligning "
    "Visual Contrastive learning models via Preference "
    "Optimization, ICLR 2025, arXiv 2411.08923.",
    "APGD": "Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse "
    "parameter-free attacks, ICML 2020, arXiv 2003.01690.",
    "intervals of proportions": "Wilson: Probable inference, the law of succession, and statistical "
    "inference, Journal of the American Statistical "
    "Association 22, 1927.",
    "intervals of changes": "Tango: Equivalence test and confidence interval for the difference in proportions for the "
    "paired-sample design, Statistics in Medicine 17, 1998, with McNemar's exact test; for results that do not hold "
    "which images they count, Newcombe: Interval estimation for the difference between independent proportions, "
    "Statistics in Medicine 17, 1998, method 10.",
}


def papers(sources: Sources) -> list[tuple[str, str]]:
    """The papers of what the page shows."""
    used = set()
    for run in sources.runs:
        objective = run.settings.objective.kind
        used |= {"LORE"} if run.settings.anchor.kind == "lagrangian" else set()
        used |= {"FARE"} if objective == "embedding_distance" else set()
        used |= {"TeCoA"} if objective == "tecoa" else set()
        used |= {"preference optimization"} if objective in ("dpo", "ipo", "kto", "ppo") else set()
    results = [file.result for entry in sources.entries for file in entry.results]
    attacks = {row.attack for result in results for row in result.robust.rows}
    used |= {"APGD"} if any("apgd" in name or name == "autoattack" for name in attacks) else set()
    used |= {"intervals of proportions", "intervals of changes"} if results else set()
    return [(name, text) for name, text in PAPERS.items() if name in used]


def versions(sources: Sources) -> list[tuple[str, str]]:
    """(what, versions) of each run and of the results, where they were written down."""
    environments = [(f"training, {run.label}", run.environment, run.computed) for run in sources.runs]
    environments += [
        (f"evaluation, {entry.label}", entry.results[0].result.environment, "")
        for entry in sources.entries
        if entry.results
    ]
    lines = []
    for name, environment, computed in environments:
        packages = {"python": environment.python, **environment.versions}
        told = [f"{package} {version}" for package, version in packages.items() if version]
        if text := ", ".join([*told, *filter(None, [computed])]):
            lines.append((name, text))
    return lines
