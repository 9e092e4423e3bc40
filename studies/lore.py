"""Experiments on LORE (arXiv 2505.18884): fronts, radii, the constraint at work, its ablations, TeCoA."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

from seaanchor.config.schema import RunConfig
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import Row, save_rows
from seaanchor.sweeps.tables import Cell, Column, as_csv, markdown, share, summarise, value
from seaanchor.utils.checkpoint import write_atomic
from studies.experiment import ONE_SEED, Bench, Experiment, Section
from studies.pool import (
    ATTACK_STEPS,
    BATCHES,
    EPSILON,
    FARE,
    FARE_ONCE,
    LORE,
    PHOTOS,
    RHO,
    elsewhere_look,
    fare_arm,
    lore_arm,
    penalty_arm,
    pooled,
    robust_look,
    trace,
    watched,
)
from studies.preference import untouched
from studies.verdicts import Effect, Verdict, above_curve, difference, judge

RHOS = (0.15, 0.1, 0.05, 0.02)
TIGHT, SLOW = (
    (0.05, 0.02),
    5e-5,
)  # where a multiplier lags behind its constraint, and a tenth of the paper's rate, which overshoots less
WEIGHTS = (1.0, 3.0, 10.0)
WEIGHT = 3.0  # the one that other experiments take
EPSILONS = (2, 4, 10)
EARLY = 60  # batches, in which instability shows: the learning rate has peaked and multipliers have grown
CLEAN, ROBUST = "photos clean %", f"photos {EPSILON}/255 %"


def columns_of(bench: Bench, radii: Sequence[int] = (2, EPSILON)) -> tuple[Column, ...]:
    """Clean and robust accuracy on photos, the same elsewhere, and how far photos drift."""
    near = [share(CLEAN, "clean", PHOTOS), *(share(f"photos {e}/255 %", f"apgd-ce {e}/255", PHOTOS) for e in radii)]
    far = [
        c
        for label, path in bench.elsewhere().items()
        for c in (share(f"{label} clean %", "clean", path), share(f"{label} 2/255 %", "apgd-ce 2/255", path))
    ]
    return *near, *far, replace(value("drift", "drift.distance.mean"), read=on_photos("drift.distance.mean"))


def on_photos(name: str) -> Callable[[Row], float | None]:
    """A reader of a number on the photos alone."""
    return lambda row: row.numbers[name]["accuracy"] if row.dataset == PHOTOS and name in row.numbers else None


def table_of(
    rows: Sequence[Row], columns: Sequence[Column], bench: Bench, name: str = "table"
) -> tuple[str, dict[str, dict[str, Cell]]]:
    """Rows as Markdown and cells; CSV beside the figures."""
    table = summarise(rows, columns)
    write_atomic(bench.output / f"{name}.csv", as_csv(table, columns))
    save_rows(rows, bench.output / f"{name}.json")
    return markdown(table, columns), table


def points(
    table: Mapping[str, Mapping[str, Cell]], names: Sequence[str], x: str, y: str
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Means in % of two columns, with the range of the second."""
    cells = [table[name] for name in names]
    return (
        [100 * c[x].mean for c in cells],
        [100 * c[y].mean for c in cells],
        [100 * c[y].low for c in cells],
        [100 * c[y].high for c in cells],
    )


def note(bench: Bench, more: str = "") -> str:
    """How the models of a section were trained and measured, in words."""
    train = "`photos-mini/train` (800 photos)" if bench.source("train", "") == "" else "the training photos given"
    return (
        f"`seaanchor-tiny-32`, {train}, {BATCHES} batches of 32 photos, ε = {EPSILON}/255 and two updates a "
        "batch unless it says otherwise, two attack "
        "steps, learning rate 1.5e-3; LORE's dual: rate 5e-4 (*slow*: 5e-5), λ from 1, at most 20; "
        f"{bench.over_seeds()}. 800 test photos, 100 emoji, up to 500 of other sets, APGD-CE with "
        f"{ATTACK_STEPS} steps; *drift*: mean squared distance of "
        f"clean embeddings from the reference's, relative to their squared length. {more}\n\n"
    )


def fronts(bench: Bench) -> dict[str, dict[str, RunConfig]]:
    """The arms of every front, from the loosest to the tightest."""
    return {
        FARE: {FARE: fare_arm(bench), FARE_ONCE: fare_arm(bench, primal_steps=1)},
        "LORE": {f"LORE ρ={rho:g}": lore_arm(bench, rho=rho) for rho in RHOS},
        "LORE, slow dual": {f"LORE ρ={rho:g}, slow": lore_arm(bench, rho=rho, dual_lr=SLOW) for rho in TIGHT},
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
        (
            title,
            f"robust accuracy on photos at {EPSILON}/255, %",
            f"{x.removesuffix(' %')}, %",
            [
                Series(family, *swapped(points(table, list(members), x, ROBUST)), line=family != FARE)
                for family, members in families.items()
            ],
        )
        for title, x in ((f"Clean against robust: {x.removesuffix(' clean %')}", x) for x in (CLEAN, *elsewhere))
    ]
    panels(figure, bench.output / "figure.svg")
    return Section(
        note(bench) + text + "\n![clean against robust accuracy](figure.svg)\n",
        ("figure.svg",),
        _front_verdicts(rows, bench),
    )


def _front_verdicts(rows: Sequence[Row], bench: Bench) -> tuple[Verdict, ...]:
    robust, weights = f"apgd-ce {EPSILON}/255", [FARE, *(f"penalty w={weight:g}" for weight in WEIGHTS)]

    def gaps(arms: str, rhos: Sequence[float], curve: Sequence[str]) -> list[Effect]:
        return [
            Effect(
                f"{label} at ρ = {rho:g}", above_curve(rows, arms.format(rho), curve, robust, "clean", PHOTOS, source)
            )
            for label, source in {"clean photos": PHOTOS, **bench.elsewhere()}.items()
            for rho in rhos
        ]

    published = [FARE, *(f"LORE ρ={rho:g}" for rho in RHOS)]
    apart = [
        effect
        for rho in RHOS
        for effect in (
            Effect(f"clean at ρ = {rho:g}", difference(rows, f"LORE ρ={rho:g}", FARE, "clean", PHOTOS)),
            Effect(f"{EPSILON}/255", difference(rows, f"LORE ρ={rho:g}", FARE, robust, PHOTOS), 0),
        )
    ]
    return (
        judge(
            "LORE's front lies above a fixed penalty's: more clean accuracy at equal robust accuracy",
            gaps("LORE ρ={:g}", RHOS, weights),
        ),
        judge(
            "a dual of a tenth of the learning rate lifts LORE above its own front",
            gaps("LORE ρ={:g}, slow", TIGHT, published),
        ),
        judge(
            "a dual of a tenth of the learning rate lifts LORE above the penalty's front",
            gaps("LORE ρ={:g}, slow", TIGHT, weights),
        ),
        judge("LORE keeps more clean accuracy than FARE and is no less robust", apart),
    )


def swapped(found: tuple[list[float], list[float], list[float], list[float]]) -> tuple[list[float], list[float]]:
    """The two columns of `points` the other way round, without the range."""
    return found[1], found[0]


METHODS, HELD = (FARE_ONCE, FARE, LORE), f"penalty w={WEIGHT:g}"


def _at(method: str, epsilon: int) -> str:
    """The run of a method at a trained radius; that at the radius of the fronts is theirs."""
    return method if epsilon == EPSILON else f"{method} ε={epsilon}"


def run_epsilon(bench: Bench) -> Section:
    """Trained radius by evaluated radius, in domain and elsewhere; clean accuracy over the batches; batches and passes
    to a robust accuracy."""
    arms = {
        _at(name, e): watched(config)
        for e in EPSILONS
        for name, config in (
            (FARE_ONCE, fare_arm(bench, e, primal_steps=1)),
            (FARE, fare_arm(bench, e)),
            (LORE, lore_arm(bench, e, RHO)),
        )
    } | {_at(HELD, e): penalty_arm(bench, WEIGHT, e) for e in EPSILONS}
    rows = pooled(arms, bench, [robust_look((2, 4, 8)), elsewhere_look(bench)])
    text, _ = table_of([*untouched(rows), *rows], columns_of(bench, (2, 4, 8)), bench)
    figure = []
    for e in EPSILONS:
        series = []
        for name in METHODS:
            curves = [trace(_at(name, e), seed, bench, f"eval|{PHOTOS}|clean") for seed in bench.seeds]
            steps, values = curves[0][0], [[100 * v for v in curve[1]] for curve in curves]
            series.append(Series(name, steps, *middle(values), marker=False))
        figure.append((f"ε = {e}/255", "batch", "clean accuracy on 200 photos, %", series))
    panels(figure, bench.output / "figure.svg")
    body = (
        note(bench)
        + text
        + "\n"
        + _dips(bench)
        + "\n"
        + _time_to(bench)
        + "\n![clean accuracy over training](figure.svg)\n"
    )
    return Section(body, ("figure.svg",), _epsilon_verdicts(rows, bench))


def _epsilon_verdicts(rows: Sequence[Row], bench: Bench) -> tuple[Verdict, ...]:
    def lowest(name: str) -> list[Row]:
        shares = [min(_early(name, seed, bench)) for seed in bench.seeds]
        return [
            Row(name, seed, PHOTOS, {"lowest": {"accuracy": low, "n": 200}}, {})
            for seed, low in zip(bench.seeds, shares, strict=True)
        ]

    dips = [row for e in EPSILONS for name in (FARE, LORE) for row in lowest(_at(name, e))]
    early = [Effect(f"ε = {e}/255", difference(dips, _at(LORE, e), _at(FARE, e), "lowest", PHOTOS)) for e in EPSILONS]
    clean = [Effect(f"ε = {e}/255", difference(rows, _at(LORE, e), _at(FARE, e), "clean", PHOTOS)) for e in EPSILONS]
    seen = {2: 2, 4: 4, 10: 8}  # trained radius → the largest evaluated one within it
    robust = [
        Effect(
            f"ε = {e}/255, attacked at {at}/255",
            difference(rows, _at(LORE, e), _at(FARE, e), f"apgd-ce {at}/255", PHOTOS),
        )
        for e, at in seen.items()
    ]
    widest, small = EPSILONS[-1], f"apgd-ce {EPSILONS[0]}/255"
    held = [
        Effect(f"clean, {name}", difference(rows, _at(LORE, widest), _at(HELD, widest), "clean", source))
        for name, source in {"photos": PHOTOS, **bench.elsewhere()}.items()
    ] + [
        Effect(
            f"no loss at {EPSILONS[0]}/255", difference(rows, _at(LORE, widest), _at(HELD, widest), small, PHOTOS), 0
        )
    ]
    return (
        judge(f"LORE's clean accuracy dips less in the first {EARLY} batches than FARE's", early),
        judge("LORE ends with more clean accuracy than FARE", clean),
        judge("LORE ends more robust than FARE", robust),
        judge(f"at ε = {widest}/255 LORE keeps more than a fixed penalty does and is no less robust", held),
        _cost_verdict(bench),
    )


def _early(name: str, seed: int, bench: Bench) -> list[float]:
    """Clean accuracies of the first batches."""
    steps, shares = trace(name, seed, bench, f"eval|{PHOTOS}|clean")
    return [share_ for step, share_ in zip(steps, shares, strict=True) if step <= EARLY]


def middle(values: Sequence[Sequence[float]]) -> tuple[list[float], list[float], list[float]]:
    """Mean, smallest and largest of every column."""
    columns = list(zip(*values, strict=True))
    return [mean(c) for c in columns], [min(c) for c in columns], [max(c) for c in columns]


def _dips(bench: Bench) -> str:
    """The lowest clean accuracy of the first batches, and the last one."""
    lines = [
        f"| trained ε | method | start % | lowest of the first {EARLY} batches % | at the end % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for e in EPSILONS:
        for name in METHODS:
            curves = [trace(_at(name, e), seed, bench, f"eval|{PHOTOS}|clean") for seed in bench.seeds]
            first = [min(_early(_at(name, e), seed, bench)) for seed in bench.seeds]
            cells = [curves[0][1][0], mean(first), mean(curve[1][-1] for curve in curves)]
            lines.append(f"| {e}/255 | {name} | " + " | ".join(f"{100 * c:.1f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


LEAST = 0.05  # robust accuracy below which a curve of 200 photos tells nothing
PASSES = {
    FARE_ONCE: 2 * 2 + 3 + 1,
    FARE: 2 * 2 + 2 * 3 + 1,
    LORE: 2 * 2 + 2 * 6 + 1,
}  # forward passes an image and batch: attack, updates, reference


def _reached(bench: Bench) -> dict[int, tuple[float, dict[str, int]]]:
    """Trained radius → the PGD accuracy at that radius which the slowest method gets to, and the batches after which
    each first has it."""
    found = {}
    for e in EPSILONS:
        curves = {
            name: [trace(_at(name, e), seed, bench, f"eval|{PHOTOS}|pgd") for seed in bench.seeds] for name in PASSES
        }
        means = {
            name: [mean(column) for column in zip(*(c[1] for c in several), strict=True)]
            for name, several in curves.items()
        }
        level = min(max(m) for m in means.values())
        found[e] = (
            level,
            {name: curves[name][0][0][next(i for i, v in enumerate(m) if v >= level)] for name, m in means.items()},
        )
    return found


def _time_to(bench: Bench) -> str:
    """Batches, and forward passes an image, to the robust accuracy that the slowest method gets to."""
    lines = [
        "| trained ε | reached | method | batches | F an image of all batches |",
        "| --- | --- | --- | --- | --- |",
    ]
    for e, (level, batches) in _reached(bench).items():
        lines += [
            f"| {e}/255 | {100 * level:.1f} % | {name} | {step} | {step * PASSES[name]:,} |"
            for name, step in batches.items()
        ]
    return "\n".join(lines) + "\n"


def _cost_verdict(bench: Bench) -> Verdict:
    """Whether LORE computes no more than FARE does for an equal robust accuracy."""
    reached = {e: batches for e, (level, batches) in _reached(bench).items() if level >= LEAST}
    ratios = {e: batches[LORE] * PASSES[LORE] / (batches[FARE] * PASSES[FARE]) for e, batches in reached.items()}
    if not ratios:
        return Verdict(
            "LORE computes no more than FARE for an equal robust accuracy",
            "open",
            f"nowhere do all reach {100 * LEAST:g} %",
        )
    cheap = [ratio <= 1 for ratio in ratios.values()]
    outcome = "holds" if all(cheap) else "holds partly" if any(cheap) else "does not hold at this scale"
    told = f"curves of 200 photos every 15 batches, no interval; only where all reach {100 * LEAST:g} %"
    listed = "; ".join(f"ε = {e}/255: {ratio:.1f} times FARE's forward passes" for e, ratio in ratios.items())
    return Verdict("LORE computes no more than FARE for an equal robust accuracy", outcome, f"{listed} ({told})")


TRIES: dict[str, dict[str, Any]] = {
    "learning rate × 2": {"lr": 3e-3},
    "twice the batches": {"max_steps": 2 * BATCHES},
    "four times the batches": {"max_steps": 4 * BATCHES},
    "unit embeddings": {"unit_embeddings": True},
}


def tried(bench: Bench) -> dict[str, dict[str, RunConfig]]:
    """The two loosest penalties and LORE where it lies between them, with other settings for all three."""
    three = {
        "LORE": lore_arm(bench, rho=0.1),
        "penalty w=1": penalty_arm(bench, 1.0),
        "penalty w=3": penalty_arm(bench, 3.0),
    }
    return {
        what: {f"{name}, {what}": replace(config, **settings) for name, config in three.items()}
        for what, settings in TRIES.items()
    }


def run_tried(bench: Bench) -> Section:
    """The gap between LORE and the penalty's front under another learning rate, a larger budget, and embeddings of
    length 1."""
    groups = tried(bench)
    rows = pooled(
        {name: config for group in groups.values() for name, config in group.items()},
        bench,
        [robust_look(), elsewhere_look(bench)],
    )
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    figure = [
        (
            what,
            f"robust accuracy on photos at {EPSILON}/255, %",
            "photos clean, %",
            [
                Series(name, *swapped(points(table, members, CLEAN, ROBUST)), line=False)
                for name, members in (("LORE ρ=0.1", list(group)[:1]), ("penalty, weights 1 and 3", list(group)[1:]))
            ],
        )
        for what, group in groups.items()
    ]
    panels(figure, bench.output / "figure.svg")
    gaps = [
        Effect(
            f"{what}, {where}", above_curve(rows, lore, penalties, f"apgd-ce {EPSILON}/255", "clean", PHOTOS, dataset)
        )
        for what, (lore, *penalties) in groups.items()
        for where, dataset in {"photos": PHOTOS, **bench.elsewhere()}.items()
    ]
    verdict = judge("another learning rate, budget or normalisation lifts LORE above the penalty's front", gaps)
    return Section(
        note(bench) + text + "\n![the same comparison under other settings](figure.svg)\n", ("figure.svg",), (verdict,)
    )


PAPER = "arXiv 2505.18884"

EXPERIMENTS = (
    Experiment(
        "lore-front",
        "LORE, FARE and a fixed penalty",
        f"{PAPER}: LORE's front of clean and robust accuracy lies above a fixed penalty's and FARE's.",
        38,
        run_front,
    ),
    Experiment(
        "lore-tried",
        "What else was tried for LORE's front",
        "The same comparison with twice the learning rate, two and four times the batches, embeddings of length 1.",
        34,
        run_tried,
        ONE_SEED,
    ),
    Experiment(
        "lore-epsilon",
        "Radii trained and radii attacked",
        f"{PAPER}: at large ε FARE loses clean accuracy early in training, LORE does not, and LORE ends higher.",
        18,
        run_epsilon,
        ONE_SEED,
    ),
)
