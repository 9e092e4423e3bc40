"""`seaanchor report`: one offline HTML page that tells what was gained and what it cost, and the same numbers as CSV."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaanchor import __version__
from seaanchor.checkpoint import write_atomic
from seaanchor.errors import SeaAnchorError
from seaanchor.progress import duration
from seaanchor.report import charts
from seaanchor.report.measures import Measure, Value
from seaanchor.report.sources import Entry, Run, Sources, read_sources
from seaanchor.report.svg import swatch
from seaanchor.report.tables import Dataset, as_csv, datasets, glance

MINUS, THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"


def write_report(runs: Sequence[Path | str], output: Path | None = None, *, gallery: int = 6, device: str | None = None) -> Path:
    """Write the page and, beside it, a CSV file of the same name.

    Args:
        runs: run folders, evaluation folders and result files.
        output: an `.html` file, or a folder for `report.html`; by default the run's own folder, where one is given.
        gallery: attacked images to show of each model; 0 leaves them out, and loads no model.
        device: where the gallery is computed.

    Returns:
        The page.

    Raises:
        SeaAnchorError: as `read_sources`; several inputs without an output; a negative gallery.
    """
    paths = [Path(run) for run in runs]
    if gallery < 0:
        raise SeaAnchorError(f"a gallery of {gallery} images", "0 or more", "correct --gallery")
    sources = read_sources(paths)
    page = _target(paths, output)
    tables = datasets(sources.entries)
    html = render(sources, tables, page.with_suffix(".csv").name, galleries(sources.entries, gallery, device))
    write_atomic(page.with_suffix(".csv"), as_csv(tables))
    write_atomic(page, html)
    return page


def _target(paths: Sequence[Path], output: Path | None) -> Path:
    if output is None:
        if len(paths) == 1 and paths[0].is_dir():
            return paths[0] / "report.html"
        raise SeaAnchorError("a report on several things, or on a file, without --output", "where the page goes", "add --output report.html")
    if output.suffix.lower() in (".html", ".htm"):
        return output
    if output.is_file():
        raise SeaAnchorError(f"{output} is a file", "a folder, or a name that ends in .html", "name another --output")
    return output / "report.html"


def galleries(entries: Sequence[Entry], count: int, device: str | None = None) -> list[Any]:
    """Attacked images of every model that was evaluated under an attack; none for a count of 0."""
    if count == 0:
        return []
    from seaanchor.report.gallery import gallery

    return [found for entry in entries if (found := gallery(entry, count, device)) is not None]


@dataclass(frozen=True)
class RunLine:
    """A run in words: its parts, its facts as (name, text), and what is still to be done."""

    label: str
    swatch: str
    parts: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    run: Run
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


def render(sources: Sources, tables: Sequence[Dataset], csv_name: str, pictures: Sequence[Any]) -> str:
    """The page as HTML; the same input gives the same page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("seaanchor.report", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"value": value_text, "interval": interval_text, "change": change_text, "svg": Markup, "breakable": breakable}
    numbers = {entry.label: i for i, entry in enumerate(sources.entries)}
    runs = [_run_line(run, _number(run, sources.entries)) for run in sources.runs]
    checks = check_lines(tables)
    evaluated = {f.number for table in tables for f in table.found}
    trained = _trained(sources.entries)
    return environment.get_template("page.html.j2").render(
        title=_title(sources.entries), entries=sources.entries, evaluated=[(swatch(numbers[e.label]), e.label) for e in sources.entries if numbers[e.label] in evaluated], runs=runs, tables=[table for table in tables if table.groups],
        bias=[table for table in tables if table.bias], glance=glance(tables[0], trained) if tables else None,
        legend=[(swatch(numbers[e.label]), e.label) for e in sources.entries], hollow=swatch(None), figures=_figures(sources, tables, trained),
        pictures=pictures, checks=checks, failed=sum(line.failed for line in checks), csv_name=csv_name, bar=bar, scale=_scale(tables),
        protocols=_protocols(sources.entries), settings=[(run.label, _yaml(run.config)) for run in sources.runs], papers=_papers(sources),
        versions=_versions(sources), version=__version__, has_steering_bias=any(_on_people(run) for run in sources.runs),
    )  # fmt: skip


def _title(entries: Sequence[Entry]) -> str:
    labels = [entry.label for entry in entries]
    return ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"


def _number(run: Run, entries: Sequence[Entry]) -> int:
    return next(i for i, entry in enumerate(entries) if entry.run is run)


def _trained(entries: Sequence[Entry]) -> float | None:
    from seaanchor.report.radii import trained_radius

    return next((found for entry in entries if (found := trained_radius(entry)) is not None), None)


def _on_people(run: Run) -> bool:
    return any("gender" in row for row in (run.steering or {}).get("rows") or ())


def _run_line(run: Run, number: int) -> RunLine:
    config = run.config
    section = {name: config.get(name) or {} for name in ("objective", "anchor", "perturbation", "adapter")}
    anchor, attack = section["anchor"], section["perturbation"]
    held = {"lagrangian": f"lagrangian, ρ = {anchor.get('rho', 0):g}", "penalty": f"penalty, weight {anchor.get('weight', 0):g}", "kl": f"kl, weight {anchor.get('weight', 0):g}"}
    on = {kind: f"{kind}, ε = {attack.get('epsilon')}, {attack.get('num_steps')} steps" for kind in ("pgd", "apgd")}
    parts = (
        str(section["objective"].get("kind", "?")), held.get(anchor.get("kind"), str(anchor.get("kind", "?"))),
        on.get(attack.get("kind"), str(attack.get("kind", "?"))), str(section["adapter"].get("kind", "?")),
    )  # fmt: skip
    seconds = sum(row.get("seconds", 0.0) for row in run.rows)
    facts = (
        ("starts from", " ".join(str(config[key]) for key in ("model", "pretrained") if config.get(key))), ("trained on", str(config.get("train_data", "?"))),
        ("batches", f"{run.step:,}" if run.finished or run.total is None else f"{run.step:,} of {run.total:,}"), ("batch size", str(config.get("batch_size", "?"))),
        ("updates a batch", str(config.get("primal_steps", "?"))), ("learning rate", f"{config['lr']:g}" if isinstance(config.get("lr"), float) else str(config.get("lr", "?"))),
        ("time in training", duration(seconds) if seconds >= 10 else f"{seconds:.1f} s" if seconds else "not logged"), ("seed", str(config.get("seed", "?"))),
    )  # fmt: skip
    of = "" if run.total is None else f" of {run.total:,}"
    unfinished = "" if run.finished else f"{run.label} has not finished: it has reached batch {run.step:,}{of}, and there is no export yet."
    return RunLine(run.label, swatch(number), parts, facts, run, unfinished)


def check_lines(tables: Sequence[Dataset]) -> list[CheckLine]:
    """Self-checks, notes and skipped images of every result on the page, the reference's with it."""
    lines = []
    for table in tables:
        for found in table.found:
            for result in found.results:
                data, checks = result.data, []
                for whose, checked in (("", data.get("checks")), ("reference, ", (data.get("reference") or {}).get("checks"))):
                    for name, outcome in (checked or {}).items():
                        passed, detail = (outcome.get("passed"), outcome.get("detail", "")) if isinstance(outcome, dict) else (outcome, "")
                        checks.append((whose + name, bool(passed), str(detail or "")))
                notes = (*(str(note) for note in data.get("notes") or ()), *filter(None, (data.get("skipped"),)))
                lines.append(CheckLine(found.entry.label, table.name, tuple(checks), notes))
    return lines


def _figures(sources: Sources, tables: Sequence[Dataset], trained: float | None) -> dict[str, list[charts.Figure]]:
    """The figures of each section, by the section's name."""
    found: dict[str, list[charts.Figure | None]] = {"trade_off": [], "typographic": [], "radius": [], "drift": []}
    for table in tables:
        series = [f.series for f in table.found]
        robust = [s for s in series if any(m.suite == "robust" for m in s.measures)]
        if chosen := charts.focus(charts.shared_radii(robust), trained):
            found["trade_off"].append(charts.trade_off(table.name, robust, chosen.key, f"{chosen.group.split(',')[0]} at {chosen.label}"))
        drawn = dict.fromkeys(m.key for s in series for m in s.measures if m.suite == "typographic" and m.label.endswith("(T)"))
        found["typographic"] += [charts.trade_off(table.name, series, key, "wrong word drawn, T") for key in list(drawn)[:1]]
        found["radius"].append(charts.radius_curve(table.name, robust, table.constant))
        moved = [(f.number, drift, f.entry.run) for f in table.found for r in f.results if (drift := (r.data.get("suites") or {}).get("drift"))]
        bounds = [drift.get("rho") or (run.config.get("anchor") or {}).get("rho") for _, drift, run in moved if run or drift.get("rho")]
        found["drift"].append(charts.drift(table.name, [(number, drift) for number, drift, _ in moved], [b for b in bounds if b]))
    numbered = [(_number(run, sources.entries), run) for run in sources.runs]
    whole: dict[str, list[charts.Figure | None]] = found | {"training": list(charts.training(numbered))}
    whole["slider"] = [charts.slider(run) for run in sources.runs]
    return {name: [figure for figure in figures if figure] for name, figures in whole.items()}


def _scale(tables: Sequence[Dataset]) -> float:
    """The largest end of an interval of a change, which all bars of the page share."""
    ends = [abs(end) for t in tables for f in t.found for m in f.measures if m.percent and m.change for end in (m.change.low, m.change.high) if end is not None]
    return max(ends, default=0.1)


def bar(measure: Measure, scale: float) -> str:
    """The change as a bar from 0 with its interval, as SVG; empty where there is none to draw."""
    change = measure.change
    if change is None or change.low is None or change.high is None or not measure.percent:
        return ""
    x, low, high = (60 + 56 * value / scale for value in (change.value, change.low, change.high))
    tone = {"gain": "--gain", "loss": "--loss"}.get(measure.verdict, "--muted")
    return (
        '<svg class="bar" viewBox="0 0 120 14" width="120" height="14" aria-hidden="true">'
        '<path d="M60 0V14" stroke="var(--muted)" stroke-width="1" opacity=".55"/>'
        f'<path d="M{min(60, x):.1f} 4h{abs(x - 60):.1f}v6h-{abs(x - 60):.1f}z" fill="var({tone})" opacity=".8"/>'
        f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 4.5v5M{high:.1f} 4.5v5" stroke="var(--ink)" stroke-width="1.1" opacity=".65"/></svg>'
    )


def _number_text(value: float, percent: bool, signed: bool = False) -> str:
    text = f"{100 * value:{'+' if signed else ''}.1f}" if percent else f"{value:{'+' if signed else ''}.3f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def value_text(value: Value | None, percent: bool) -> str:
    """Per cent with one decimal, or three decimals; a dash where there is nothing."""
    return "–" if value is None else _number_text(value.value, percent)


def interval_text(value: Value | None, percent: bool, signed: bool = False) -> str:
    """Both ends; empty where they are not known."""
    if value is None or value.low is None or value.high is None:
        return ""
    return f"{_number_text(value.low, percent, signed)} to {_number_text(value.high, percent, signed)}"


def change_text(value: Value | None, percent: bool) -> str:
    """A signed change; empty where there is none."""
    return "" if value is None else _number_text(value.value, percent, signed=True)


def breakable(text: str) -> Any:
    """Text that may break after the slashes, dashes and underscores of a path."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/_\-.=])", text) if part)


def _protocols(entries: Sequence[Entry]) -> list[tuple[str, str, str, str]]:
    """(model, data set, file, everything that decides the numbers) of each result."""
    rows = []
    for entry in entries:
        for result in entry.results:
            data = {"protocol": result.data.get("protocol"), "environment": result.data.get("environment")}
            rows.append((entry.label, str(result.data["dataset"]), result.path.name, _yaml(data)))
    return rows


def _yaml(data: Any) -> str:
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


PAPERS = {
    "LORE": "Khodabandeh, Afzali, Afsharrad, Mousavi, Lall, Amini, Moosavi-Dezfooli: LORE: Lagrangian-Optimized Robust Embeddings for Visual Encoders, 2025, arXiv 2505.18884.",
    "FARE": "Schlarmann, Singh, Croce, Hein: Robust CLIP: Unsupervised Adversarial Fine-Tuning of Vision Embeddings for Robust Large Vision-Language Models, ICML 2024, arXiv 2402.12336.",
    "TeCoA": "Mao, Geng, Yang, Wang, Vondrick: Understanding Zero-Shot Adversarial Robustness for Large-Scale Models, ICLR 2023, arXiv 2212.07016.",
    "preference optimization": "Afzali, Khodabandeh, Rasekh, JafariNodeh, Kazemi, Gottschalk: Aligning Visual Contrastive learning models via Preference Optimization, ICLR 2025, arXiv 2411.08923.",
    "APGD": "Croce, Hein: Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks, ICML 2020, arXiv 2003.01690.",
    "intervals of proportions": "Wilson: Probable inference, the law of succession, and statistical inference, Journal of the American Statistical Association 22, 1927.",
    "intervals of changes": "Newcombe: Interval estimation for the difference between independent proportions, Statistics in Medicine 17, 1998, method 10.",
}  # fmt: skip


def _papers(sources: Sources) -> list[tuple[str, str]]:
    """The papers of what the page shows."""
    used = set()
    for run in sources.runs:
        kinds = {name: (run.config.get(name) or {}).get("kind") for name in ("objective", "anchor")}
        used |= {"LORE"} if kinds["anchor"] == "lagrangian" else set()
        used |= {"embedding_distance": {"FARE"}, "tecoa": {"TeCoA"}}.get(kinds["objective"], set())
        used |= {"preference optimization"} if kinds["objective"] in ("dpo", "ipo", "kto") else set()
    results = [result.data for entry in sources.entries for result in entry.results]
    used |= {"APGD"} if any("apgd" in row["attack"] or row["attack"] == "autoattack" for data in results for row in data.get("robust") or ()) else set()
    used |= {"intervals of proportions", "intervals of changes"} if results else set()
    return [(name, text) for name, text in PAPERS.items() if name in used]


def _versions(sources: Sources) -> list[tuple[str, str]]:
    """(what, versions) of each run and of the results, where they were written down."""
    environments = [(f"training, {run.label}", run.environment) for run in sources.runs]
    environments += [(f"evaluation, {entry.label}", entry.results[0].data.get("environment") or {}) for entry in sources.entries if entry.results]
    lines = []
    for name, environment in environments:
        packages = {"python": environment.get("python"), **(environment.get("versions") or {})}
        if text := ", ".join(f"{package} {version}" for package, version in packages.items() if version):
            lines.append((name, text))
    return lines
