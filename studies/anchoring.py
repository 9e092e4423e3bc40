"""Experiments on what holds a robust model near its reference: mixtures of weights, every anchor, moving references,
other duals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.arms import Arm
from seaanchor.sweeps.engine import Row, measure
from studies.ablations import tecoa_arms
from studies.experiment import ONE_SEED, Bench, Experiment, Section
from studies.lore import CLEAN, RHOS, ROBUST, SLOW, WEIGHT, WEIGHTS, columns_of, points, table_of
from studies.mixing import interpolate
from studies.pool import (
    EPSILON,
    FARE,
    LORE,
    PHOTOS,
    RHO,
    SIBLING,
    elsewhere_look,
    fare_arm,
    lore_arm,
    penalty_arm,
    pooled,
    robust_look,
    run_folder,
    tecoa_arm,
)
from studies.preference import untouched
from studies.verdicts import Effect, above_curve, difference, judge


def _said(bench: Bench) -> str:
    return f"Budget, sets and attack as in the fronts above, {bench.over_seeds()}.\n\n"


ALPHAS = (0.25, 0.5, 0.75)


def run_mixing(bench: Bench) -> Section:
    """Weights between the reference and each robust model: a free point on every front."""
    arms = {
        FARE: fare_arm(bench),
        LORE: lore_arm(bench, rho=RHO),
        f"penalty w={WEIGHT:g}": penalty_arm(bench, WEIGHT),
        "TeCoA": tecoa_arm(bench),
    }
    looks = [robust_look(), elsewhere_look(bench)]
    rows, shared = pooled(arms, bench, looks), bench.output.parent / "robust"
    for name, config in arms.items():
        for seed in bench.seeds:
            for alpha in ALPHAS:
                tuned = run_folder(name, seed, bench) / "export"
                model = interpolate(
                    SIBLING, str(tuned), alpha, shared / "mixed" / f"seed-{seed}" / f"{name} alpha={alpha:g}"
                )
                rows += measure(Arm(name, config), seed, model, looks, shared, f"{name} α={alpha:g}")
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    curves = {name: ["untouched", *(f"{name} α={a:g}" for a in ALPHAS), name] for name in arms}
    titles = [c.title for c in columns_of(bench) if c.title.endswith("clean %")]
    panels(
        [
            (
                f"{x.removesuffix(' clean %')}",
                f"robust accuracy on photos at {EPSILON}/255, %",
                f"{x.removesuffix(' %')} accuracy, %",
                [Series(name, *points(table, curve, ROBUST, x), path=True) for name, curve in curves.items()],
            )
            for x in titles
        ],
        bench.output / "figure.svg",
    )
    note = "α mixes the weights of the reference (0) and of the trained model (1). " + _said(bench)
    every = rows + _penalties(bench, rows)
    verdict = judge(
        "half-way weights of FARE lie above the penalty's front: more clean accuracy at equal robust accuracy",
        [
            Effect(
                f"{x} at α = {alpha:g}",
                above_curve(every, f"{FARE} α={alpha:g}", _FRONT, f"apgd-ce {EPSILON}/255", "clean", PHOTOS, where),
            )
            for x, where in (("clean photos", PHOTOS), ("emoji", "emoji/test"))
            for alpha in ALPHAS
        ],
    )
    return Section(note + text + "\n![mixtures of weights](figure.svg)\n", ("figure.svg",), (verdict,))


_FRONT = [FARE, *(f"penalty w={weight:g}" for weight in WEIGHTS)]


def _penalties(bench: Bench, known: Sequence[Row]) -> list[Row]:
    """The penalty's front, of the weights that are not among the rows yet."""
    arms = {f"penalty w={weight:g}": penalty_arm(bench, weight) for weight in WEIGHTS if weight != WEIGHT}
    return pooled(arms, bench, [robust_look(), elsewhere_look(bench)], known)


def noise_anchors(bench: Bench) -> dict[str, dict[str, RunConfig]]:
    """Robust objectives under every anchor."""
    held = lore_arm(bench, rho=RHO).anchor
    fare_, tecoa_, held_tecoa = fare_arm(bench), tecoa_arm(bench), tecoa_arms(bench)
    return {
        "FARE": {
            "none": fare_,
            "penalty": penalty_arm(bench, WEIGHT),
            "KL": replace(fare_, anchor=AnchorConfig("kl", weight=100.0)),
            "Lagrangian on embeddings": lore_arm(bench, rho=RHO),
            "Lagrangian on distributions": replace(fare_, anchor=replace(held, space="distribution", rho=0.1)),
        },
        "TeCoA": {
            "none": tecoa_,
            "penalty": tecoa_arm(bench, AnchorConfig("penalty", weight=0.01)),
            "KL": tecoa_arm(bench, AnchorConfig("kl", weight=1.0)),
            "Lagrangian on embeddings": held_tecoa["TeCoA + embedding constraint"],
            "Lagrangian on distributions": held_tecoa["TeCoA + KL constraint"],
        },
    }


def run_noise_anchors(bench: Bench) -> Section:
    """Every anchor for the objectives against noise."""
    groups = noise_anchors(bench)
    arms = {
        _shared_name(objective, anchor): config
        for objective, family in groups.items()
        for anchor, config in family.items()
    }
    rows = pooled(arms, bench, [robust_look(), elsewhere_look(bench)])
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    panels(
        [
            (
                objective,
                "photos, robust accuracy at 4/255, %",
                "clean accuracy on photos, %",
                [
                    Series(anchor, *points(table, [_shared_name(objective, anchor)], ROBUST, CLEAN), line=False)
                    for anchor in family
                ],
            )
            for objective, family in groups.items()
        ],
        bench.output / "figure.svg",
    )
    robust, verdicts = f"apgd-ce {EPSILON}/255", []
    for objective, family in groups.items():
        bare = _shared_name(objective, "none")
        verdicts += [
            judge(
                f"{anchor} keeps more of {objective}'s clean accuracy and is no less robust",
                [
                    Effect("clean photos", difference(rows, _shared_name(objective, anchor), bare, "clean", PHOTOS)),
                    Effect("emoji", difference(rows, _shared_name(objective, anchor), bare, "clean", "emoji/test")),
                    Effect(
                        f"{EPSILON}/255", difference(rows, _shared_name(objective, anchor), bare, robust, PHOTOS), 0
                    ),
                ],
            )
            for anchor in family
            if anchor != "none"
        ]
    strengths = (
        "One strength of each anchor, settled in short trials, so that this compares settings and not "
        f"fronts. FARE: penalty {WEIGHT:g}, KL 100, constraint "
        f"ρ = {RHO:g} on embeddings, 0.1 on distributions; TeCoA: penalty 0.01, KL 1, ρ = 0.2 with λ from "
        "0.003 on embeddings, 0.1 on distributions. "
    )
    return Section(
        strengths + _said(bench) + text + "\n![anchors compared](figure.svg)\n", ("figure.svg",), tuple(verdicts)
    )


def _shared_name(objective: str, anchor: str) -> str:
    """The name under which another experiment has trained it, so that it is trained once."""
    shared = {
        ("FARE", "none"): FARE,
        ("FARE", "penalty"): f"penalty w={WEIGHT:g}",
        ("FARE", "Lagrangian on embeddings"): LORE,
        ("TeCoA", "none"): "TeCoA",
        ("TeCoA", "Lagrangian on embeddings"): "TeCoA + embedding constraint",
        ("TeCoA", "Lagrangian on distributions"): "TeCoA + KL constraint",
    }
    return shared.get((objective, anchor), f"{objective} + {anchor}")


def run_moving(bench: Bench) -> Section:
    """A reference that moves: averages of the policy itself as the anchor, against the frozen one."""
    arms = {FARE: fare_arm(bench)}
    for name, config in ((f"penalty w={WEIGHT:g}", penalty_arm(bench, WEIGHT)), (LORE, lore_arm(bench, rho=RHO))):
        weighted, exponential = replace(config.anchor, reference="beta"), replace(config.anchor, reference="ema")
        arms |= {
            name: config,
            f"{name}, weighted average": replace(config, anchor=weighted),
            f"{name}, exponential average": replace(config, anchor=exponential),
        }
    rows = pooled(arms, bench, [robust_look(), elsewhere_look(bench)])
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    panels(
        [
            (
                f"{x.removesuffix(' %')} against robust",
                f"robust accuracy on photos at {EPSILON}/255, %",
                f"{x.removesuffix(' %')} accuracy, %",
                [Series(name, *points(table, [name], ROBUST, x), line=False) for name in arms],
            )
            for x in (CLEAN, "emoji clean %")
        ],
        bench.output / "figure.svg",
    )
    note = (
        "*Weighted average*: Beta(0.7, 0.7) weights over the batches so far, which never forget the "
        "pre-trained weights; *exponential average*: decay "
        "0.99 a batch. The adversarial target stays the frozen reference. " + _said(bench)
    )
    every = rows + _penalties(bench, rows)
    verdicts = tuple(
        judge(
            f"{kind} of the policy's weights as the anchor keeps more than a frozen reference at equal robust accuracy",
            [
                Effect(
                    f"{name.split(' ')[0]}, {label}",
                    above_curve(every, f"{name}, {kind}", _FRONT, f"apgd-ce {EPSILON}/255", "clean", PHOTOS, dataset),
                )
                for name in (f"penalty w={WEIGHT:g}", LORE)
                for label, dataset in (("clean photos", PHOTOS), ("emoji", "emoji/test"))
            ],
        )
        for kind in ("weighted average", "exponential average")
    )
    return Section(note + text + "\n![moving references](figure.svg)\n", ("figure.svg",), verdicts)


def dual_arms(bench: Bench) -> dict[str, dict[str, RunConfig]]:
    """The published dual and attempts to better it, each over ρ."""
    kinds: dict[str, dict[str, Any]] = {
        "published": {"max_multiplier": None},
        "capped": {},
        "warm start": {"initial_multiplier": 10.0},
        "violators only": {"violators_only": True},
        "augmented": {"augmented": 3.0},
        "slow": {"dual_lr": SLOW},
    }

    def rhos(kind: str) -> tuple[float, ...]:
        return RHOS if kind == "published" else (0.1, RHO) if kind == "capped" else (RHO,)

    return {
        kind: {
            f"LORE ρ={rho:g}" + ("" if kind == "capped" else f", {kind}"): lore_arm(bench, rho=rho, **more)
            for rho in rhos(kind)
        }
        for kind, more in kinds.items()
    }


def run_dual(bench: Bench) -> Section:
    """LORE's dual as published, and attempts to better it."""
    families = dual_arms(bench) | {
        "penalty": {f"penalty w={w:g}": penalty_arm(bench, w) for w in WEIGHTS},
        FARE: {FARE: fare_arm(bench)},
    }
    arms = {name: config for family in families.values() for name, config in family.items()}
    rows = pooled(arms, bench, [robust_look(), elsewhere_look(bench)])
    text, table = table_of([*untouched(rows), *rows], columns_of(bench), bench)
    panels(
        [
            (
                f"{x.removesuffix(' %')} against robust",
                f"robust accuracy on photos at {EPSILON}/255, %",
                f"{x.removesuffix(' %')} accuracy, %",
                [
                    Series(kind, *points(table, list(members), ROBUST, x), path=True)
                    for kind, members in families.items()
                ],
            )
            for x in (CLEAN, "emoji clean %")
        ],
        bench.output / "figure.svg",
    )
    note = (
        "*Published*: no limit on λ; *capped*: λ at most 20, as everywhere else here; *warm start*: λ from "
        "10; *violators only*: "
        "λ·max(0, distance − bound); *augmented*: a squared violation beside λ (κ = 3); "
        "*slow*: a tenth of the learning rate. All but the first are capped. " + _said(bench)
    )
    published = [FARE, *dual_arms(bench)["published"]]
    verdicts = tuple(
        judge(
            f"a dual that is {kind.replace('warm start', 'started high')} lies above the published one",
            [
                Effect(
                    f"{x} at {name.partition(',')[0].removeprefix('LORE ')}",
                    above_curve(
                        rows,
                        name,
                        published,
                        f"apgd-ce {EPSILON}/255",
                        "clean",
                        PHOTOS,
                        where,
                    ),
                )
                for name in members
                for x, where in (("photos", PHOTOS), ("emoji", "emoji/test"))
            ],
        )
        for kind, members in dual_arms(bench).items()
        if kind != "published"
    )
    return Section(note + text + "\n![duals compared](figure.svg)\n", ("figure.svg",), verdicts)


PAPER = "arXiv 2505.18884"

EXPERIMENTS = (
    Experiment(
        "mixing",
        "Mixtures with the reference",
        "Mixing weights with the reference (WiSE-FT, PAINT) gives further points for nothing; do they lie "
        "above a penalty's front?",
        14,
        run_mixing,
        ONE_SEED,
    ),
    Experiment(
        "noise-anchors",
        "Anchors against noise",
        "Which anchor helps FARE and TeCoA most?",
        15,
        run_noise_anchors,
        ONE_SEED,
    ),
    Experiment(
        "moving",
        "A reference that moves",
        "An average of the policy's own weights as the anchor (TRACER, arXiv 2605.29380) keeps more.",
        13,
        run_moving,
        ONE_SEED,
    ),
    Experiment(
        "dual",
        "Other duals",
        f"A changed dual update lies above the published one ({PAPER}) on the front of clean and robust accuracy.",
        19,
        run_dual,
        ONE_SEED,
    ),
)
