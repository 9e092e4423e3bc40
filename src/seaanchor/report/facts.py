"""What the page says in words: each run, the checks, the protocol, papers and versions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seaanchor.plotting.svg import swatch
from seaanchor.report.sources import Entry, Run, Sources
from seaanchor.report.tables import Dataset
from seaanchor.training.progress import duration


@dataclass(frozen=True)
class RunLine:
    """A run in words: its parts, its facts as (name, text), and what is still to be done."""

    label: str
    swatch: str
    parts: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    unfinished: str


@dataclass(frozen=True)
class CheckLine:
    """The self-checks of one model on one data set: (name, passed, detail) each, and what else the file says."""

    label: str
    dataset: str
    checks: tuple[tuple[str, bool, str], ...]
    notes: tuple[str, ...]

    @property
    def failed(self) -> int:
        """How many checks did not pass."""
        return sum(not passed for _, passed, _ in self.checks)


def run_line(run: Run, number: int) -> RunLine:
    """A run in words."""
    config = run.config
    seconds = sum(row.get("seconds", 0.0) for row in run.rows)
    batches = f"{run.step:,}" if run.finished or run.total is None else f"{run.step:,} of {run.total:,}"
    rate = config.get("lr", "?")
    facts = (
        ("starts from", " ".join(str(config[key]) for key in ("model", "pretrained") if config.get(key))),
        ("trained on", str(config.get("train_data", "?"))),
        ("batches", batches),
        ("batch size", str(config.get("batch_size", "?"))),
        ("updates a batch", str(config.get("primal_steps", "?"))),
        ("learning rate", f"{rate:g}" if isinstance(rate, float) else str(rate)),
        ("time in training", _spent(seconds)),
        ("seed", str(config.get("seed", "?"))),
    )
    of = "" if run.total is None else f" of {run.total:,}"
    unfinished = (
        ""
        if run.finished
        else f"{run.label} has not finished: it has reached batch {run.step:,}{of}, and there is no export yet."
    )
    return RunLine(run.label, swatch(number), _parts(config), facts, unfinished)


def _spent(seconds: float) -> str:
    return duration(seconds) if seconds >= 10 else f"{seconds:.1f} s" if seconds else "not logged"


def _parts(config: dict[str, Any]) -> tuple[str, ...]:
    """Objective, anchor, perturbation and adapter, each with its main setting."""
    objective, anchor, attack, adapter = (
        config.get(name) or {} for name in ("objective", "anchor", "perturbation", "adapter")
    )
    kinds = [str(part.get("kind", "?")) for part in (objective, anchor, attack, adapter)]
    if kinds[1] == "lagrangian":
        kinds[1] += f", ρ = {anchor.get('rho', 0):g}"
    elif kinds[1] in ("penalty", "kl"):
        kinds[1] += f", weight {anchor.get('weight', 0):g}"
    if kinds[2] in ("pgd", "apgd"):
        kinds[2] += f", ε = {attack.get('epsilon')}, {attack.get('num_steps')} steps"
    return tuple(kinds)


def check_lines(tables: Sequence[Dataset]) -> list[CheckLine]:
    """Self-checks, notes and skipped images of every result on the page, the reference's with it."""
    lines = []
    for table in tables:
        for found in table.found:
            for result in found.results:
                data, checks = result.data, []
                for whose, checked in (
                    ("", data.get("checks")),
                    ("reference, ", (data.get("reference") or {}).get("checks")),
                ):
                    for name, outcome in (checked or {}).items():
                        passed, detail = (
                            (outcome.get("passed"), outcome.get("detail", ""))
                            if isinstance(outcome, dict)
                            else (outcome, "")
                        )
                        checks.append((whose + name, bool(passed), str(detail or "")))
                notes = (*(str(note) for note in data.get("notes") or ()), *filter(None, (data.get("skipped"),)))
                lines.append(CheckLine(found.entry.label, table.name, tuple(checks), notes))
    return lines


def protocols(entries: Sequence[Entry]) -> list[tuple[str, str, str, str]]:
    """(model, data set, file, everything that decides the numbers) of each result."""
    rows = []
    for entry in entries:
        for result in entry.results:
            data = {"protocol": result.data.get("protocol"), "environment": result.data.get("environment")}
            rows.append((entry.label, str(result.data["dataset"]), result.path.name, as_yaml(data)))
    return rows


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
    "intervals of changes": "Newcombe: Interval estimation for the difference between independent "
    "proportions, Statistics in Medicine 17, 1998, method 10.",
}


def papers(sources: Sources) -> list[tuple[str, str]]:
    """The papers of what the page shows."""
    used = set()
    for run in sources.runs:
        kinds = {name: str((run.config.get(name) or {}).get("kind")) for name in ("objective", "anchor")}
        used |= {"LORE"} if kinds["anchor"] == "lagrangian" else set()
        used |= {"embedding_distance": {"FARE"}, "tecoa": {"TeCoA"}}.get(kinds["objective"], set())
        used |= {"preference optimization"} if kinds["objective"] in ("dpo", "ipo", "kto") else set()
    results = [result.data for entry in sources.entries for result in entry.results]
    used |= (
        {"APGD"}
        if any(
            "apgd" in row["attack"] or row["attack"] == "autoattack"
            for data in results
            for row in data.get("robust") or ()
        )
        else set()
    )
    used |= {"intervals of proportions", "intervals of changes"} if results else set()
    return [(name, text) for name, text in PAPERS.items() if name in used]


def versions(sources: Sources) -> list[tuple[str, str]]:
    """(what, versions) of each run and of the results, where they were written down."""
    environments = [(f"training, {run.label}", run.environment) for run in sources.runs]
    environments += [
        (f"evaluation, {entry.label}", entry.results[0].data.get("environment") or {})
        for entry in sources.entries
        if entry.results
    ]
    lines = []
    for name, environment in environments:
        packages = {"python": environment.get("python"), **(environment.get("versions") or {})}
        if text := ", ".join(f"{package} {version}" for package, version in packages.items() if version):
            lines.append((name, text))
    return lines
