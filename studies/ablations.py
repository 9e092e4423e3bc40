"""Ablations of LORE (arXiv 2505.18884): the constraint at work, duals, margins, updates a batch, and TeCoA under
constraints."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean

import torch
from torch import Tensor

from seaanchor.anchors.duals import Dual
from seaanchor.config.recipes import fare
from seaanchor.config.schema import RunConfig, from_dict, read_yaml
from seaanchor.data.loader import SkipLog
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import EvaluationSpec, Row
from seaanchor.sweeps.tables import Column
from seaanchor.training.run_folder import RunFolder
from seaanchor.training.setup import batch_stream, prepare
from studies.experiment import ONE_SEED, Bench, Experiment, Section
from studies.lore import (
    CLEAN,
    PAPER,
    RHOS,
    ROBUST,
    TIGHT,
    columns_of,
    middle,
    note,
    on_photos,
    points,
    swapped,
    table_of,
)
from studies.pool import (
    EPSILON,
    FARE,
    FARE_ONCE,
    LORE,
    PHOTOS,
    RHO,
    UPDATES,
    budget,
    elsewhere_look,
    fare_arm,
    lore_arm,
    pooled,
    robust_look,
    run_folder,
    tecoa_arm,
    trace,
)
from studies.preference import untouched
from studies.verdicts import Effect, Verdict, above_curve, difference, judge

FAST_SCALAR = f"{LORE}, scalar dual, rate × 100"


def constraint_arms(bench: Bench, margin: float) -> dict[str, RunConfig]:
    """FARE, LORE at two ρ, and LORE with other duals and with a fixed margin."""
    return (
        {FARE: fare_arm(bench)}
        | {f"LORE ρ={rho:g}": lore_arm(bench, rho=rho) for rho in TIGHT}
        | {
            f"{LORE}, linear dual": lore_arm(bench, rho=RHO, dual="linear"),
            # an Adam step moves a network's or a map's output by the rate times the sum of about a hundred features, a
            # number by the rate alone
            FAST_SCALAR: lore_arm(bench, rho=RHO, dual="scalar", dual_lr=0.05),
            f"{LORE}, λ fixed at 1": lore_arm(bench, rho=RHO, dual_lr=0.0),
            f"{LORE}, fixed margin": lore_arm(bench, rho=RHO * margin, margin="fixed"),
        }
    )


def run_constraint(bench: Bench) -> Section:
    """What the multipliers do over training, and how far images end from where they were; dual variables and margins
    compared."""
    reference_ND = _references(bench)
    looks = [robust_look(), elsewhere_look(bench)]
    rows = pooled(constraint_arms(bench, _mean_margin(reference_ND)), bench, looks)
    text, _ = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    shown = [FARE, *(f"LORE ρ={rho:g}" for rho in TIGHT)]
    kinds = [LORE, f"{LORE}, linear dual", FAST_SCALAR, f"{LORE}, λ fixed at 1"]
    panels(
        [
            (
                "Distance of clean training images",
                "batch",
                "mean relative squared distance",
                [_curve(name, bench, "clean_distance") for name in shown],
            ),
            (
                "Share above ρ",
                "batch",
                "violations, % of a batch",
                [_curve(name, bench, "violation_rate", 100) for name in shown],
            ),
            ("Multipliers", "batch", "mean λ", [_curve(name, bench, "multiplier") for name in shown[1:]]),
            ("Multipliers by kind of dual", "batch", "mean λ", [_curve(name, bench, "multiplier") for name in kinds]),
        ],
        bench.output / "figure.svg",
    )
    picture = "\n![distances, violations and multipliers over training](figure.svg)\n"
    return Section(
        note(bench) + text + _held(rows, bench, reference_ND) + picture,
        ("figure.svg",),
        _constraint_verdicts(rows, bench, looks),
    )


def _held(rows: Sequence[Row], bench: Bench, reference_ND: Tensor) -> str:
    """How near images were held, and by what multipliers."""
    within = [Column(f"drift p{p}", on_photos(f"drift.distance.p{p}"), 3, 1.0) for p in (50, 90)]
    trained = [
        Column(title, _logged(bench, key, part), 1, scale)
        for title, key, part, scale in (
            ("above ρ at the end %", "violation_rate", 0.2, 100.0),
            ("above ρ, all batches %", "violation_rate", 1.0, 100.0),
            ("λ at the end", "multiplier", 0.2, 1.0),
        )
    ]
    spread = [Column(f"λ p{p}", _multiplier(bench, reference_ND, p / 100), 2, 1.0) for p in (10, 50, 90)]
    told = (
        "\n*Drift*: of test photos. *Above ρ*: share of training images, at the end = mean of the last fifth "
        "of the log; FARE is counted against "
        "ρ = 0.1. *λ p10* to *p90*: percentiles of the last dual over the training photos.\n\n"
    )
    return told + table_of(rows, (*within, *trained, *spread), bench, "table-held")[0]


def _constraint_verdicts(rows: Sequence[Row], bench: Bench, looks: Sequence[EvaluationSpec]) -> tuple[Verdict, ...]:
    read = _logged(bench, "violation_rate", 0.2)
    broken = [
        replace(row, numbers={"broken": {"accuracy": read(row) or 0.0, "n": 32 * 6}})
        for row in rows
        if row.dataset == PHOTOS
    ]
    learned = difference(broken, f"{LORE}, λ fixed at 1", LORE, "broken", PHOTOS)

    front = {f"LORE ρ={rho:g}": lore_arm(bench, rho=rho) for rho in RHOS}
    every = [
        *rows,
        *pooled(
            {name: config for name, config in front.items() if name not in {row.arm for row in rows}},
            bench,
            looks,
            rows,
        ),
    ]

    def against(other: str) -> list[Effect]:
        return [
            Effect(
                f"{other.partition(', ')[2]} above the front over ρ, {label}",
                above_curve(
                    every,
                    other,
                    [FARE, *front],
                    f"apgd-ce {EPSILON}/255",
                    "clean",
                    PHOTOS,
                    source,
                ),
                -1,
            )
            for label, source in {"clean photos": PHOTOS, **bench.elsewhere()}.items()
        ]

    return (
        judge(
            "learned multipliers break the constraint less often than λ = 1",
            [Effect("share of training images above ρ at the end", learned)],
        ),
        judge("a dual network beats a linear dual", against(f"{LORE}, linear dual")),
        judge("a dual network beats one scalar", against(FAST_SCALAR)),
        judge("an adaptive margin beats a fixed one", against(f"{LORE}, fixed margin")),
    )


def _references(bench: Bench) -> Tensor:
    """Reference embeddings (N, D) of the training photos."""
    setup = prepare(replace(budget(fare(), bench), max_steps=None, epochs=1, batch_size=100))
    return torch.cat(
        [setup.reference(batch.pixels_BCHW) for batch in batch_stream(setup, 0, 0, 1, SkipLog(setup.images))]
    )


def _mean_margin(reference_ND: Tensor) -> float:
    """Mean ‖φ_0(x)‖²: the fixed margin that allows as much as the adaptive one on average."""
    return round(reference_ND.square().sum(-1).mean().item(), 1)


def _multiplier(bench: Bench, reference_ND: Tensor, part: float) -> Callable[[Row], float | None]:
    """A quantile over the training photos of the multipliers that a run's dual ends with."""

    @torch.no_grad()
    def read(row: Row) -> float | None:
        if row.seed < 0 or row.dataset != PHOTOS:
            return None
        run = RunFolder(run_folder(row.arm, row.seed, bench))
        anchor, state = from_dict(RunConfig, read_yaml(run.config)).anchor, run.latest()
        if anchor.kind != "lagrangian" or state is None:
            return None
        dual = Dual(anchor.dual, reference_ND.shape[1], hidden=anchor.dual_hidden, maximum=anchor.max_multiplier)
        dual.load_state_dict(state["dual"])
        return dual(reference_ND).quantile(part).item()

    return read


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
    return Series(name, curves[0][0], *middle([[scale * v for v in curve[1]] for curve in curves]), marker=False)


STEPS = (1, 2, 5)


def _stepped(method: str, k: int) -> str:
    """The run of a method with K updates a batch; those of the fronts are theirs."""
    shared = {(FARE, 1): FARE_ONCE, (FARE, UPDATES): FARE, (LORE, UPDATES): LORE}
    return shared.get((method, k), f"{method}, K = {k}")


def run_k(bench: Bench) -> Section:
    """Updates a batch: LORE over K, with FARE at as many updates beside it."""
    arms = {
        _stepped(name, k): config
        for k in STEPS
        for name, config in ((FARE, fare_arm(bench, primal_steps=k)), (LORE, lore_arm(bench, rho=RHO, primal_steps=k)))
    }
    rows = pooled(arms, bench, [robust_look(), elsewhere_look(bench)])
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    figure = [
        (
            title,
            "updates a batch, K",
            "accuracy, %",
            [
                Series(name, STEPS, *points(table, [_stepped(name, k) for k in STEPS], title, title)[1:])
                for name in (FARE, LORE)
            ],
        )
        for title in (CLEAN, ROBUST, "emoji clean %")
    ]
    panels(figure, bench.output / "figure.svg", log=True)
    verdicts = (
        judge(
            "a larger K lowers clean accuracy",
            [
                Effect(
                    f"LORE, K = 1 less K = 5, {label}",
                    difference(rows, _stepped(LORE, 1), _stepped(LORE, 5), "clean", source),
                )
                for label, source in {"photos": PHOTOS, **bench.elsewhere()}.items()
            ],
        ),
        judge(
            "a larger K raises robust accuracy",
            [
                Effect(
                    f"LORE, K = 5 less K = 1, {EPSILON}/255",
                    difference(rows, _stepped(LORE, 5), _stepped(LORE, 1), f"apgd-ce {EPSILON}/255", PHOTOS),
                )
            ],
        ),
    )
    return Section(
        note(bench, f"ρ = {RHO:g}.") + text + "\n![accuracy against K](figure.svg)\n", ("figure.svg",), verdicts
    )


def tecoa_arms(bench: Bench) -> dict[str, RunConfig]:
    """TeCoA alone, under LORE's constraint on embeddings and under the constraint on class distributions."""
    held = lore_arm(bench, rho=RHO).anchor
    return {
        "TeCoA": tecoa_arm(bench),
        # its loss is of order 1, distances are of order 100: at LORE's ρ and multipliers nothing would move
        "TeCoA + embedding constraint": tecoa_arm(bench, replace(held, rho=0.2, initial_multiplier=0.003)),
        "TeCoA + KL constraint": tecoa_arm(bench, replace(held, space="distribution", rho=0.1)),
    }


def run_tecoa(bench: Bench) -> Section:
    """TeCoA with and without constraints, beside FARE and LORE."""
    arms = tecoa_arms(bench) | {FARE: fare_arm(bench), LORE: lore_arm(bench, rho=RHO)}
    rows = pooled(arms, bench, [robust_look(), elsewhere_look(bench)])
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    names = list(arms)
    figure = [
        (
            f"{x.removesuffix(' %')} against robust",
            f"robust accuracy on photos at {EPSILON}/255, %",
            f"{x.removesuffix(' %')}, %",
            [Series(name, *swapped(points(table, [name], x, ROBUST)), line=False) for name in names],
        )
        for x in (CLEAN, "emoji clean %")
    ]
    panels(figure, bench.output / "figure.svg")

    def beside(one: str, other: str) -> list[Effect]:
        return [
            Effect("clean photos", difference(rows, one, other, "clean", PHOTOS)),
            Effect("emoji", difference(rows, one, other, "clean", "emoji/test")),
            Effect(f"{EPSILON}/255", difference(rows, one, other, f"apgd-ce {EPSILON}/255", PHOTOS), 0),
        ]

    bare, *held = list(arms)[:3]
    verdicts = (
        *(judge(f"{one} keeps more than TeCoA and is no less robust", beside(one, bare)) for one in held),
        judge("a constraint on embeddings helps TeCoA more than one on class distributions", beside(*held)),
    )
    said = note(bench, "TeCoA learns from the labels of the training photos; FARE and LORE see none.")
    return Section(said + text + "\n![clean against robust accuracy](figure.svg)\n", ("figure.svg",), verdicts)


EXPERIMENTS = (
    Experiment(
        "lore-constraint",
        "The constraint at work",
        f"{PAPER}: the multipliers hold clean images near the reference; a network does it best.",
        10,
        run_constraint,
        ONE_SEED,
    ),
    Experiment(
        "lore-k",
        "Updates a batch",
        f"{PAPER}: a larger K lowers clean accuracy and raises robust accuracy.",
        12,
        run_k,
        ONE_SEED,
    ),
    Experiment(
        "lore-tecoa",
        "TeCoA under constraints",
        f"{PAPER}: a constraint on embeddings helps TeCoA most, one on class distributions less.",
        22,
        run_tecoa,
    ),
)
