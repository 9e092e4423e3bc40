"""Study of LORE: trained radius by evaluated radius, clean accuracy while training, the cost of a robust accuracy."""

from statistics import mean

from seaanchor.evaluation.statistics import Share
from seaanchor.sweeps.engine import Row
from studies.declare import Claim, Contrast, Design, EachSet, Panel, Results, Study, Trace
from studies.lore_studies import PAPER
from studies.noise_arms import (
    EPSILON,
    FARE,
    FARE_ONCE,
    HALF_RADIUS,
    LORE,
    PENALTY,
    RHO,
    WEIGHT,
    fare_arm,
    lore_arm,
    penalty_arm,
    robust_spec,
    watched,
)
from studies.noise_tables import NOTE, robust_columns
from studies.pools import NOISE
from studies.training_logs import trace
from studies.verdicts import Verdict
from studies.workspace import ONE_SEED, PHOTOS, Workspace

EPSILONS = (2, 4, 10)
SEEN = {2: 2, 4: 4, 10: 8}  # trained radius → the largest evaluated one within it
EARLY = 60  # steps, in which instability shows: the learning rate has peaked and multipliers have grown
METHODS = (FARE_ONCE, FARE, LORE)
LEAST = 0.05  # robust accuracy below which a curve of 200 photos tells nothing
PASSES = {
    FARE_ONCE: 2 * 2 + 3 + 1,
    FARE: 2 * 2 + 2 * 3 + 1,
    LORE: 2 * 2 + 2 * 6 + 1,
}  # forward passes an image and step: attack, updates, reference


def at_radius(method: str, epsilon: int) -> str:
    """The run of a method at a trained radius; that at the radius of the fronts is theirs."""
    return method if epsilon == EPSILON else f"{method} ε={epsilon}"


def _clean(name: str, seed: int, workspace: Workspace) -> tuple[list[int], list[float]]:
    return trace(name, seed, workspace, f"eval|{PHOTOS}|clean")


def _lowest(name: str, seed: int, workspace: Workspace) -> float:
    """The lowest clean accuracy of the first steps."""
    return min(x for step, x in zip(*_clean(name, seed, workspace), strict=True) if step <= EARLY)


def _dip_rows(results: Results) -> list[Row]:
    """The lowest accuracies as rows of their own."""
    names = [at_radius(name, e) for e in EPSILONS for name in (FARE, LORE)]
    return [
        Row(name, seed, PHOTOS, {"lowest": Share(_lowest(name, seed, results.workspace), n=200)}, {})
        for name in names
        for seed in results.workspace.seeds
    ]


def _dips(workspace: Workspace) -> str:
    """The lowest clean accuracy of the first steps, and the last one."""
    lines = [
        f"| trained ε | method | start % | lowest of the first {EARLY} batches % | at the end % |",
        "| --- | --- | --- | --- | --- |",
    ]
    for e in EPSILONS:
        for name in METHODS:
            arm = at_radius(name, e)
            curves = [_clean(arm, seed, workspace)[1] for seed in workspace.seeds]
            first = [_lowest(arm, seed, workspace) for seed in workspace.seeds]
            cells = [curves[0][0], mean(first), mean(curve[-1] for curve in curves)]
            lines.append(f"| {e}/255 | {name} | " + " | ".join(f"{100 * c:.1f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def _reached(workspace: Workspace) -> dict[int, tuple[float, dict[str, int]]]:
    """Trained radius → the PGD accuracy at that radius which the slowest method gets to, and the steps after which
    each first has it."""
    found = {}
    for e in EPSILONS:
        curves = {
            name: [trace(at_radius(name, e), seed, workspace, f"eval|{PHOTOS}|pgd") for seed in workspace.seeds]
            for name in PASSES
        }
        means = {
            name: [mean(column) for column in zip(*(c[1] for c in several), strict=True)]
            for name, several in curves.items()
        }
        level = min(max(m) for m in means.values())
        first = {name: next(i for i, v in enumerate(m) if v >= level) for name, m in means.items()}
        found[e] = (level, {name: curves[name][0][0][i] for name, i in first.items()})
    return found


def _time_to(workspace: Workspace) -> str:
    """Steps, and forward passes an image, to the robust accuracy that the slowest method gets to."""
    lines = [
        "| trained ε | reached | method | batches | F an image of all batches |",
        "| --- | --- | --- | --- | --- |",
    ]
    for e, (level, steps) in _reached(workspace).items():
        lines += [
            f"| {e}/255 | {100 * level:.1f} % | {name} | {step} | {step * PASSES[name]:,} |"
            for name, step in steps.items()
        ]
    return "\n".join(lines) + "\n"


def _cost(results: Results) -> tuple[Verdict, ...]:
    """Whether LORE computes no more than FARE does for an equal robust accuracy."""
    claim = "LORE computes no more than FARE for an equal robust accuracy"
    reached = {e: steps for e, (level, steps) in _reached(results.workspace).items() if level >= LEAST}
    ratios = {e: steps[LORE] * PASSES[LORE] / (steps[FARE] * PASSES[FARE]) for e, steps in reached.items()}
    if not ratios:
        return (Verdict(claim, "open", f"nowhere do all reach {100 * LEAST:g} %"),)
    cheap = [ratio <= 1 for ratio in ratios.values()]
    outcome = "holds" if all(cheap) else "holds partly" if any(cheap) else "does not hold at this scale"
    remark = f"curves of 200 photos every 15 steps, no interval; only where all reach {100 * LEAST:g} %"
    listed = "; ".join(f"ε = {e}/255: {ratio:.1f} times FARE's forward passes" for e, ratio in ratios.items())
    return (Verdict(claim, outcome, f"{listed} ({remark})"),)


def _at_each(measure: str) -> tuple[Contrast, ...]:
    return tuple(Contrast(f"ε = {e}/255", at_radius(LORE, e), at_radius(FARE, e), measure) for e in EPSILONS)


WIDEST, SMALLEST = EPSILONS[-1], EPSILONS[0]
WIDE, HELD = at_radius(LORE, WIDEST), at_radius(PENALTY, WIDEST)

RADII = Design(
    pool=NOISE,
    arms={
        at_radius(name, e): watched(config)
        for e in EPSILONS
        for name, config in (
            (FARE_ONCE, fare_arm(e, primal_steps=1)),
            (FARE, fare_arm(e)),
            (LORE, lore_arm(RHO, e)),
        )
    }
    | {at_radius(PENALTY, e): penalty_arm(WEIGHT, e) for e in EPSILONS},
    specs=(robust_spec((2, 4, 8)), HALF_RADIUS),
    columns=robust_columns((2, 4, 8)),
    note=NOTE,
    panels=tuple(
        Panel(
            f"ε = {e}/255",
            "batch",
            "clean accuracy on 200 photos, %",
            tuple(Trace(name, at_radius(name, e), f"eval|{PHOTOS}|clean", 100) for name in METHODS),
        )
        for e in EPSILONS
    ),
    picture="clean accuracy over training",
    claims=(
        Claim(f"LORE's clean accuracy dips less in the first {EARLY} steps than FARE's", _at_each("lowest")),
        Claim("LORE ends with more clean accuracy than FARE", _at_each("clean")),
        Claim(
            "LORE ends more robust than FARE",
            tuple(
                Contrast(
                    f"ε = {e}/255, attacked at {at}/255", at_radius(LORE, e), at_radius(FARE, e), f"apgd-ce {at}/255"
                )
                for e, at in SEEN.items()
            ),
        ),
        Claim(
            f"at ε = {WIDEST}/255 LORE keeps more than a fixed penalty does and is no less robust",
            (
                EachSet((Contrast("clean, {set}", WIDE, HELD, "clean"),), photos="photos"),
                Contrast(f"no loss at {SMALLEST}/255", WIDE, HELD, f"apgd-ce {SMALLEST}/255", wanted=0),
            ),
        ),
    ),
    derived_rows=_dip_rows,
    after_table=lambda results: f"\n{_dips(results.workspace)}\n{_time_to(results.workspace)}",
    further_verdicts=_cost,
)

STUDIES = (
    Study(
        "lore-epsilon",
        "Radii trained and radii attacked",
        f"{PAPER}: at large ε FARE loses clean accuracy early in training, LORE does not, and LORE ends higher.",
        18,
        RADII,
        ONE_SEED,
    ),
)
