"""Experiments on LORE (arXiv 2505.18884): fronts, radii, the constraint at work, its ablations, TeCoA."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import mean

from seaanchor.checkpoint import write_atomic
from seaanchor.config import RunConfig
from seaanchor.experiments.engine import Row, save_rows
from seaanchor.experiments.experiment import Bench, Experiment, Section
from seaanchor.experiments.figures import Series, panels
from seaanchor.experiments.pool import (
    EPSILON,
    PHOTOS,
    SIBLING,
    budget,
    elsewhere_look,
    fare_arm,
    lore_arm,
    penalty_arm,
    pooled,
    robust_look,
    tecoa_arm,
    trace,
)  # fmt: skip
from seaanchor.experiments.preference import untouched
from seaanchor.experiments.tables import Cell, Column, as_csv, markdown, share, summarise, value
from seaanchor.experiments.verdicts import difference
from seaanchor.recipes import fare

RHOS = (0.2, 0.1, 0.05, 0.02)
WEIGHTS = (0.3, 1.0, 3.0, 10.0)
RHO, WEIGHT = 0.05, 3.0  # the ones that other experiments take
EPSILONS = (2, 4, 8, 10)
CLEAN, ROBUST = "photos clean %", f"photos {EPSILON}/255 %"
LORE, FARE = f"LORE ρ={RHO:g}", "FARE"


def columns_of(bench: Bench, radii: Sequence[int] = (2, EPSILON)) -> tuple[Column, ...]:
    """Clean and robust accuracy on photos, the same elsewhere, and how far photos drift."""
    others = {label: path for label, path in (("emoji", "emoji/test"), *bench.extra) if label != "train"}
    near = [share(CLEAN, "clean", PHOTOS), *(share(f"photos {e}/255 %", f"apgd-ce {e}/255", PHOTOS) for e in radii)]
    far = [c for label, path in others.items() for c in (share(f"{label} clean %", "clean", path), share(f"{label} 2/255 %", "apgd-ce 2/255", path))]
    return *near, *far, replace(value("drift", "drift.distance.mean"), read=_on_photos("drift.distance.mean"))


def _on_photos(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.numbers[name]["accuracy"] if row.dataset == PHOTOS and name in row.numbers else None


def table_of(rows: Sequence[Row], columns: Sequence[Column], bench: Bench, name: str = "table") -> tuple[str, dict[str, dict[str, Cell]]]:
    """Rows as Markdown and cells; CSV beside the figures."""
    table = summarise(rows, columns)
    write_atomic(bench.output / f"{name}.csv", as_csv(table, columns))
    save_rows(rows, bench.output / f"{name}.json")
    return markdown(table, columns), table


def points(table: Mapping[str, Mapping[str, Cell]], names: Sequence[str], x: str, y: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Means in % of two columns, with the range of the second."""
    cells = [table[name] for name in names]
    return [100 * c[x].mean for c in cells], [100 * c[y].mean for c in cells], [100 * c[y].low for c in cells], [100 * c[y].high for c in cells]


def _note(bench: Bench, more: str = "") -> str:
    train = "`photos-mini/train` (800 photos)" if bench.source("train", "") == "" else "the training photos given"
    return (
        f"`{SIBLING}`, {train}, 500 batches of 32 photos, ε = {EPSILON}/255 unless it says otherwise, two attack steps, two updates a batch for every method, "
        f"learning rate 1.5e-3. Mean over seeds {', '.join(map(str, bench.seeds))}, range in brackets; 800 test photos, APGD-CE with 20 steps. {more}\n\n"
    )


def fronts(bench: Bench) -> dict[str, dict[str, RunConfig]]:
    """The arms of every front, from the loosest to the tightest."""
    return {
        "FARE": {FARE: fare_arm(bench), "FARE, one update": fare_arm(bench, primal_steps=1)},
        "LORE": {f"LORE ρ={rho:g}": lore_arm(bench, rho=rho) for rho in RHOS},
        "penalty": {f"penalty w={weight:g}": penalty_arm(bench, weight) for weight in WEIGHTS},
    }


def run_front(bench: Bench) -> Section:
    """LORE over ρ against the naive penalty over its weight, at equal images, attacks and updates."""
    families = fronts(bench)
    arms = {name: config for family in families.values() for name, config in family.items()}
    rows = pooled(arms, bench, [robust_look(), elsewhere_look(bench)])
    columns = columns_of(bench)
    text, table = table_of([*untouched(rows), *rows], columns, bench)
    elsewhere = [c.title for c in columns if c.title.endswith("clean %") and c.title != CLEAN]
    figure = [
        (title, f"robust accuracy on photos at {EPSILON}/255, %", f"{x.removesuffix(' %')}, %", [
            Series(family, *_swap(points(table, list(members), x, ROBUST)), line=family != "FARE") for family, members in families.items()
        ]) for title, x in ((f"Clean against robust: {x.removesuffix(' clean %')}", x) for x in (CLEAN, *elsewhere))
    ]  # fmt: skip
    panels(figure, bench.output / "figure.svg")
    lines = [
        f"- LORE (ρ = {rho:g}) less FARE at equal updates: clean {difference(rows, f'LORE ρ={rho:g}', FARE, 'clean', PHOTOS)}, "
        f"{EPSILON}/255 {difference(rows, f'LORE ρ={rho:g}', FARE, f'apgd-ce {EPSILON}/255', PHOTOS)}, emoji clean "
        f"{difference(rows, f'LORE ρ={rho:g}', FARE, 'clean', 'emoji/test')}" for rho in RHOS
    ]  # fmt: skip
    return Section(_note(bench) + text + "\n" + "\n".join(lines) + "\n\n![clean against robust accuracy](figure.svg)\n", ("figure.svg",))


def _swap(found: tuple[list[float], list[float], list[float], list[float]]) -> tuple[list[float], list[float]]:
    return found[1], found[0]


def _watched(config: RunConfig) -> RunConfig:
    """The same run with a look at 200 test photos every 20 batches, which changes nothing in it."""
    return replace(config, val_data=(PHOTOS,), eval_every=20, eval_samples=200)


def run_epsilon(bench: Bench) -> Section:
    """Trained radius by evaluated radius, in domain and elsewhere; clean accuracy over the batches; batches and passes to a robust accuracy."""
    arms = {
        f"{name} ε={e}": _watched(config) for e in EPSILONS for name, config in (
            ("FARE", fare_arm(bench, e, primal_steps=1)), ("FARE, two updates", fare_arm(bench, e)), ("LORE", lore_arm(bench, e, RHO))
        )
    }  # fmt: skip
    rows = pooled(arms, bench, [robust_look((1 / 255, 2 / 255, 4 / 255, 8 / 255)), elsewhere_look(bench)])
    text, _ = table_of([*untouched(rows), *rows], columns_of(bench, (1, 2, 4, 8)), bench)
    figure = []
    for e in EPSILONS:
        series = []
        for name in ("FARE", "FARE, two updates", "LORE"):
            curves = [trace(f"{name} ε={e}", seed, bench, f"eval|{PHOTOS}|clean") for seed in bench.seeds]
            steps, values = curves[0][0], [[100 * v for v in curve[1]] for curve in curves]
            series.append(Series(name, steps, *_middle(values), marker=False))
        figure.append((f"ε = {e}/255", "batch", "clean accuracy on 200 photos, %", series))
    panels(figure, bench.output / "figure.svg")
    return Section(_note(bench) + text + "\n" + _dips(bench) + "\n" + _time_to(bench) + "\n![clean accuracy over training](figure.svg)\n", ("figure.svg",))


def _middle(values: Sequence[Sequence[float]]) -> tuple[list[float], list[float], list[float]]:
    columns = list(zip(*values, strict=True))
    return [mean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns]


def _dips(bench: Bench) -> str:
    """The lowest clean accuracy of the first 100 batches, and the last one."""
    lines = ["| trained ε | method | start % | lowest of the first 100 batches % | at the end % |", "| --- | --- | --- | --- | --- |"]
    for e in EPSILONS:
        for name in ("FARE", "FARE, two updates", "LORE"):
            curves = [trace(f"{name} ε={e}", seed, bench, f"eval|{PHOTOS}|clean") for seed in bench.seeds]
            first = [min(v for s, v in zip(*curve, strict=True) if s <= 100) for curve in curves]
            cells = [curves[0][1][0], mean(first), mean(curve[1][-1] for curve in curves)]
            lines.append(f"| {e}/255 | {name} | " + " | ".join(f"{100 * c:.1f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def _time_to(bench: Bench) -> str:
    """Batches, and forward passes an image, until PGD accuracy at the training radius first reaches what the slower method ends with."""
    passes = {"FARE": 2 * 2 + 3 + 1, "FARE, two updates": 2 * 2 + 2 * 3 + 1, "LORE": 2 * 2 + 2 * 6 + 1}
    lines = ["| trained ε | reached | method | batches | F an image of all batches |", "| --- | --- | --- | --- | --- |"]
    for e in EPSILONS:
        curves = {name: [trace(f"{name} ε={e}", seed, bench, f"eval|{PHOTOS}|pgd") for seed in bench.seeds] for name in passes}
        means = {name: [mean(column) for column in zip(*(c[1] for c in found), strict=True)] for name, found in curves.items()}
        level = min(max(m) for m in means.values())
        for name, m in means.items():
            at = next(i for i, v in enumerate(m) if v >= level)
            step = curves[name][0][0][at]
            lines.append(f"| {e}/255 | {100 * level:.1f} % | {name} | {step} | {step * passes[name]:,} |")
    return "\n".join(lines) + "\n"


def run_constraint(bench: Bench) -> Section:
    """What the multipliers do over training, and how far images end from where they were; dual variables and margins compared."""
    arms = {FARE: fare_arm(bench)} | {f"LORE ρ={rho:g}": lore_arm(bench, rho=rho) for rho in RHOS[1:]} | {
        f"{LORE}, linear dual": lore_arm(bench, rho=RHO, dual="linear"),
        f"{LORE}, scalar dual": lore_arm(bench, rho=RHO, dual="scalar"),
        f"{LORE}, λ fixed at 1": lore_arm(bench, rho=RHO, dual_lr=0.0),
        f"{LORE}, fixed margin": lore_arm(bench, rho=RHO * _mean_margin(bench), margin="fixed"),
    }  # fmt: skip
    rows = pooled(arms, bench, [robust_look((2 / 255, EPSILON / 255)), elsewhere_look(bench)])
    within = [Column(f"drift p{p} ", _on_photos(f"drift.distance.p{p}"), 3, 1.0) for p in (50, 90)]
    trained = [Column(title, _logged(bench, key, share_), 1, scale) for title, key, share_, scale in (
        ("above ρ at the end %", "violation_rate", 0.1, 100.0), ("above ρ, all batches %", "violation_rate", 1.0, 100.0),
        ("λ at the end", "multiplier", 0.1, 1.0),
    )]  # fmt: skip
    text, _ = table_of([*untouched(rows), *rows], (*columns_of(bench), *within, *trained), bench)
    shown = [FARE, *(f"LORE ρ={rho:g}" for rho in RHOS[1:])]
    kinds = [LORE, f"{LORE}, linear dual", f"{LORE}, scalar dual", f"{LORE}, λ fixed at 1"]
    figure = [
        ("Distance of clean training images", "batch", "mean relative squared distance", [_curve(name, bench, "clean_distance") for name in shown]),
        ("Share above ρ", "batch", "violations, % of a batch", [_curve(name, bench, "violation_rate", 100) for name in shown]),
        ("Multipliers", "batch", "mean λ", [_curve(name, bench, "multiplier") for name in shown[1:]]),
        ("Multipliers by kind of dual", "batch", "mean λ", [_curve(name, bench, "multiplier") for name in kinds]),
    ]
    panels(figure, bench.output / "figure.svg")
    return Section(
        _note(bench, "*Above ρ*: share of training images, at the end = mean of the last tenth of the log; FARE is counted against ρ = 0.1. ")
        + text + "\n![distances, violations and multipliers over training](figure.svg)\n", ("figure.svg",),
    )  # fmt: skip


def _mean_margin(bench: Bench) -> float:
    """Mean ‖φ_0(x)‖² of the training photos: the fixed margin that allows as much as the adaptive one on average."""
    from seaanchor.data.folder import SkipLog
    from seaanchor.prepare import batch_stream, prepare

    setup = prepare(replace(budget(fare(), bench), max_steps=None, epochs=1, batch_size=100))
    squares = [setup.reference(batch.pixels_BCHW).square().sum(-1) for batch in batch_stream(setup, 0, 0, 1, SkipLog(setup.images))]
    return round(sum(float(s.sum()) for s in squares) / sum(len(s) for s in squares), 1)


def _logged(bench: Bench, key: str, last: float) -> Callable[[Row], float | None]:
    """Mean of a logged number over the last share of a shared run's log."""

    def read(row: Row) -> float | None:
        if row.seed < 0 or row.dataset != PHOTOS:
            return None
        values = trace(row.arm, row.seed, bench, key)[1]
        return mean(values[-max(1, round(last * len(values))) :]) if values else None

    return read


def _curve(name: str, bench: Bench, key: str, scale: float = 1.0) -> Series:
    curves = [trace(name, seed, bench, key) for seed in bench.seeds]
    return Series(name, curves[0][0], *_middle([[scale * v for v in curve[1]] for curve in curves]), marker=False)


STEPS = (1, 2, 5, 10)


def run_k(bench: Bench) -> Section:
    """Updates a batch: LORE over K, with FARE at as many updates beside it."""
    arms = {f"{name} K={k}": config for k in STEPS for name, config in (
        ("FARE", fare_arm(bench, primal_steps=k)), ("LORE", lore_arm(bench, rho=RHO, primal_steps=k))
    )}  # fmt: skip
    rows = pooled(arms, bench, [robust_look((2 / 255, EPSILON / 255)), elsewhere_look(bench)])
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    figure = [(title, "updates a batch, K", "accuracy, %", [
        Series(name, STEPS, *points(table, [f"{name} K={k}" for k in STEPS], title, title)[1:]) for name in ("FARE", "LORE")
    ]) for title in (CLEAN, ROBUST, "emoji clean %")]  # fmt: skip
    panels(figure, bench.output / "figure.svg", log=True)
    return Section(_note(bench, f"ρ = {RHO:g}.") + text + "\n![accuracy against K](figure.svg)\n", ("figure.svg",))


def tecoa_arms(bench: Bench) -> dict[str, RunConfig]:
    """TeCoA alone, under LORE's constraint on embeddings and under the constraint on class distributions."""
    held = lore_arm(bench, rho=RHO).anchor
    return {
        "TeCoA": tecoa_arm(bench),
        "TeCoA + embedding constraint": tecoa_arm(bench, replace(held, initial_multiplier=0.003)),  # its loss is of order 1, distances are of order 100
        "TeCoA + KL constraint": tecoa_arm(bench, replace(held, on="distribution", rho=0.1)),
    }


def run_tecoa(bench: Bench) -> Section:
    """TeCoA with and without constraints, beside FARE and LORE."""
    arms = tecoa_arms(bench) | {FARE: fare_arm(bench), LORE: lore_arm(bench, rho=RHO)}
    rows = pooled(arms, bench, [robust_look((2 / 255, EPSILON / 255)), elsewhere_look(bench)])
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    names = list(arms)
    figure = [(f"{x.removesuffix(' %')} against robust", f"robust accuracy on photos at {EPSILON}/255, %", f"{x.removesuffix(' %')}, %", [
        Series(name, *_swap(points(table, [name], x, ROBUST)), line=False) for name in names
    ]) for x in (CLEAN, "emoji clean %")]  # fmt: skip
    panels(figure, bench.output / "figure.svg")
    lines = [
        f"- {one} less TeCoA: clean {difference(rows, one, 'TeCoA', 'clean', PHOTOS)}, {EPSILON}/255 "
        f"{difference(rows, one, 'TeCoA', f'apgd-ce {EPSILON}/255', PHOTOS)}, emoji clean {difference(rows, one, 'TeCoA', 'clean', 'emoji/test')}"
        for one in list(arms)[1:3]
    ]  # fmt: skip
    note = _note(bench, "TeCoA learns from the labels of the training photos; FARE and LORE see none.")
    return Section(note + text + "\n" + "\n".join(lines) + "\n\n![clean against robust accuracy](figure.svg)\n", ("figure.svg",))


PAPER = "arXiv 2505.18884"

EXPERIMENTS = (
    Experiment(
        "lore-front", "LORE, FARE and a fixed penalty", f"{PAPER}: LORE's front of clean and robust accuracy lies above a fixed penalty's and FARE's.", 30,
        run_front,
    ),
    Experiment(
        "lore-epsilon", "Radii trained and radii attacked",
        f"{PAPER}: at large ε FARE loses clean accuracy early in training, LORE does not, and LORE ends higher.", 35, run_epsilon,
    ),
    Experiment(
        "lore-constraint", "The constraint at work", f"{PAPER}: the multipliers hold clean images near the reference; a network does it best.", 20,
        run_constraint,
    ),
    Experiment("lore-k", "Updates a batch", f"{PAPER}: a larger K lowers clean accuracy and raises robust accuracy.", 35, run_k),
    Experiment(
        "lore-tecoa", "TeCoA under constraints", f"{PAPER}: a constraint on embeddings helps TeCoA most, one on class distributions less.", 15, run_tecoa
    ),
)  # fmt: skip
