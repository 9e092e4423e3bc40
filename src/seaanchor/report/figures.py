"""Which figures a page has, by section."""

from collections.abc import Sequence

from seaanchor.evaluation.suite_results import Drift
from seaanchor.report.charts import Figure, Series, focus, shared_radii
from seaanchor.report.drift_chart import drift_figure
from seaanchor.report.radius_chart import radius_curve
from seaanchor.report.runs import Run
from seaanchor.report.slider_chart import slider
from seaanchor.report.sources import Entry, Sources
from seaanchor.report.tables import Dataset
from seaanchor.report.trade_off_chart import trade_off
from seaanchor.report.training_charts import training


def figures_of(sources: Sources, tables: Sequence[Dataset], trained: float | None) -> dict[str, list[Figure]]:
    """The figures of each section, by the section's name.

    Args:
        sources: the models and runs of the page.
        tables: their results, by data set.
        trained: ε of training, or None.
    """
    numbered = [(number_of(run, sources.entries), run) for run in sources.runs]
    robust = [[s for s in _series(table) if any(m.suite == "robust" for m in s.measures)] for table in tables]
    found: dict[str, list[Figure | None]] = {
        "trade_off": [_attacked(table, series, trained) for table, series in zip(tables, robust, strict=True)],
        "typographic": [_typographic(table) for table in tables],
        "radius": [radius_curve(t.name, series, t.constant) for t, series in zip(tables, robust, strict=True)],
        "drift": [_drift(table) for table in tables],
        "training": list(training(numbered)),
        "slider": [slider(run) for run in sources.runs],
    }
    return {name: [figure for figure in figures if figure] for name, figures in found.items()}


def number_of(run: Run, entries: Sequence[Entry]) -> int:
    """Place of a run among the models of the page, which decides its colour."""
    return next(i for i, entry in enumerate(entries) if entry.run is run)


def _series(table: Dataset) -> list[Series]:
    return [f.series for f in table.found]


def _attacked(table: Dataset, robust: Sequence[Series], trained: float | None) -> Figure | None:
    if (chosen := focus(shared_radii(robust), trained)) is None:
        return None
    return trade_off(table.name, robust, chosen.key, f"{chosen.group.split(',')[0]} at {chosen.label}")


def _typographic(table: Dataset) -> Figure | None:
    """By the first way of drawing words that any model was evaluated with."""
    series = _series(table)
    drawn = [m.key for s in series for m in s.measures if m.suite == "typographic" and m.label.endswith("(T)")]
    return trade_off(table.name, series, drawn[0], "wrong word drawn, T") if drawn else None


def _drift(table: Dataset) -> Figure | None:
    moved = [(f.number, drift, f.entry.run) for f in table.found for r in f.results if (drift := r.result.suites.drift)]
    bounds = [bound for _, drift, run in moved if (bound := _bound(drift, run))]
    return drift_figure(table.name, [(number, drift) for number, drift, _ in moved], bounds)


def _bound(drift: Drift, run: Run | None) -> float | None:
    """What distances of clean embeddings are compared with: ρ, but for runs that are held to something else than
    those."""
    if run is None:
        return drift.rho
    anchor, adapter = run.settings.anchor, run.settings.adapter
    elsewhere = anchor.kind == "kl" or anchor.space == "distribution" or adapter.kind == "linear"
    return None if elsewhere else drift.rho or anchor.rho
