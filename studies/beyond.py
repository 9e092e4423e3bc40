"""Experiments on words that neither paper has: constrained preference optimization, every anchor compared."""

from collections.abc import Mapping
from dataclasses import replace

from seaanchor.config.recipes import dpo_tiny, ipo_tiny, kto_tiny, typographic_ce_tiny
from seaanchor.config.schema import AnchorConfig, RunConfig
from seaanchor.evaluation.run import Protocol
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import EvaluationSpec
from seaanchor.sweeps.tables import Column, share
from studies.experiment import ONE_SEED, Bench, Experiment, Section
from studies.lore import points, table_of
from studies.preference import COLUMNS, untouched
from studies.verdicts import Effect, above_curve, difference, judge
from studies.words import DRAWN, PASSES, PHOTOS, short, word_rows

T, O = "T, word drawn %", "O, clean %"  # noqa: E741 # the paper's letters


def elsewhere(bench: Bench) -> EvaluationSpec:
    """Clean accuracy on what took no part in training, 1,000 images of each."""
    return EvaluationSpec(tuple(bench.elsewhere().values()), Protocol((), samples=1000))


def set_columns(bench: Bench) -> tuple[Column, ...]:
    """Clean accuracy on each of those."""
    return tuple(share(f"{label} %", "clean", path) for label, path in bench.elsewhere().items())


def lagrangian(rho: float, on: str = "embedding", initial: float = 0.003) -> AnchorConfig:
    """LORE's constraint for losses of order 1, whose multipliers start low."""
    return AnchorConfig("lagrangian", space=on, rho=rho, dual_lr=5e-4, initial_multiplier=initial, max_multiplier=20.0)  # type: ignore[arg-type]


LAMBDAS, PENALTIES, BOUNDS = (0.1, 0.3, 1.0, 3.0, 10.0), (0.001, 0.004), (0.4, 0.2, 0.1, 0.05)


def run_constrained(bench: Bench) -> Section:
    """DPO held by KL over its weight, and by LORE's constraint over ρ: the whole front of both."""
    base = short(dpo_tiny())
    families = {
        "DPO + KL": {
            f"DPO + KL λ={weight:g}": replace(base, anchor=AnchorConfig("kl", weight=weight)) for weight in LAMBDAS
        },
        "DPO + penalty": {
            f"DPO + penalty w={weight:g}": replace(base, anchor=AnchorConfig("penalty", weight=weight))
            for weight in PENALTIES
        },
        "DPO + Lagrangian": {f"DPO + Lagrangian ρ={rho:g}": replace(base, anchor=lagrangian(rho)) for rho in BOUNDS},
    }
    arms = {name: config for family in families.values() for name, config in family.items()}
    rows = word_rows(arms, bench, [DRAWN, elsewhere(bench)])
    columns = (*(replace(c, read=_on_photos(c)) for c in COLUMNS), *set_columns(bench))
    text, table = table_of([*untouched(rows), *rows], columns, bench)
    titles = [O, "reading %", *(c.title for c in set_columns(bench))]
    panels(
        [
            (
                f"{title.removesuffix(' %')} against T",
                "accuracy with a wrong word drawn, %",
                f"{title.removesuffix(' %')}, %",
                [
                    Series(family, *points(table, list(members), T, title), path=True)
                    for family, members in families.items()
                ],
            )
            for title in titles
        ],
        bench.output / "figure.svg",
    )
    note = (
        f"`dpo-tiny` with {PASSES} passes, last weights; *w*: weight of a fixed penalty on embeddings; "
        f"{bench.over_seeds()}; columns as in the table of all "
        "objectives.\n\n"
    )
    every = [*untouched(rows), *rows]
    verdicts = tuple(
        judge(
            f"DPO under LORE's constraint keeps more than DPO with {what} at equal accuracy under drawn words",
            [
                Effect(
                    f"{label} at ρ = {rho:g}",
                    above_curve(
                        every,
                        f"DPO + Lagrangian ρ={rho:g}",
                        ["untouched", *reversed(families[other])],
                        "typographic.attacked",
                        _clean(where),
                        PHOTOS,
                        where,
                    ),
                )
                for label, where in (*reversed(bench.elsewhere().items()), ("clean photos", PHOTOS))
                for rho in BOUNDS
            ],
        )
        for other, what in (("DPO + KL", "KL"), ("DPO + penalty", "a fixed penalty on embeddings"))
    )
    return Section(
        note + text + "\n![what is kept against accuracy with a wrong word drawn](figure.svg)\n",
        ("figure.svg",),
        verdicts,
    )


def _clean(dataset: str) -> str:
    return "typographic.clean" if dataset == PHOTOS else "clean"


def _on_photos(column: Column):
    return lambda row: column.read(row) if row.dataset == PHOTOS else None


def run_word_anchors(bench: Bench) -> Section:
    """Every anchor for the objectives against words."""
    objectives = {"CE": typographic_ce_tiny(), "DPO": dpo_tiny(), "IPO": ipo_tiny(), "KTO": kto_tiny()}
    scale = {
        "CE": 1.0,
        "DPO": 0.1,
        "IPO": 100.0,
        "KTO": 0.1,
    }  # how steep a loss is at the start, so that an anchor weighs about as much beside each
    arms: dict[str, RunConfig] = {}
    for name, recipe in objectives.items():
        base, weight = short(recipe), scale[name]
        anchors: Mapping[str, AnchorConfig] = {
            "none": AnchorConfig(),
            "penalty": AnchorConfig("penalty", weight=0.01 * weight),
            "KL": recipe.anchor if name != "CE" else AnchorConfig("kl", weight=weight),
            "Lagrangian on embeddings": lagrangian(0.1, initial=0.003 * weight),
            "Lagrangian on distributions": lagrangian(0.1, "distribution", initial=0.1 * weight),
        }
        arms |= {f"{name} + {anchor}": replace(base, anchor=config) for anchor, config in anchors.items()}
    rows = word_rows(arms, bench, [DRAWN, elsewhere(bench)])
    columns = (*(replace(c, read=_on_photos(c)) for c in COLUMNS), *set_columns(bench))
    text, table = table_of([*untouched(rows), *rows], columns, bench)
    kinds = ("none", "penalty", "KL", "Lagrangian on embeddings", "Lagrangian on distributions")
    panels(
        [
            (
                f"{title.removesuffix(' %')} against T",
                "accuracy with a wrong word drawn, %",
                f"{title.removesuffix(' %')}, %",
                [
                    Series(
                        kind,
                        *points(table, [f"{name} + {kind}" for name in objectives], T, title)[:2],
                        line=False,
                        kinds=list(objectives),
                    )
                    for kind in kinds
                ],
            )
            for title in (O, "emoji %")
        ],
        bench.output / "figure.svg",
    )
    note = (
        f"The recipes of the table on drawn words with {PASSES} passes, one strength of each anchor, so that "
        "this compares settings and not fronts: for CE a "
        "penalty of 0.01, KL 1, ρ = 0.1 on embeddings with λ from 0.003 or on distributions with λ from 0.1; "
        "penalty and λ are a tenth of that for DPO and "
        "KTO, a hundred times as much for IPO, after how steep the losses start; KL as in their recipes; "
        f"{bench.over_seeds()}.\n\n"
    )
    verdicts = tuple(
        judge(
            f"{kind} keeps more of what {', '.join(objectives)} had, and words stay as powerless",
            [
                effect
                for name in objectives
                for effect in (
                    Effect(
                        f"{name} on emoji",
                        difference(rows, f"{name} + {kind}", f"{name} + none", "clean", "emoji/test"),
                    ),
                    Effect(
                        f"{name} under words",
                        difference(rows, f"{name} + {kind}", f"{name} + none", "typographic.attacked", PHOTOS),
                        0,
                    ),
                )
            ],
        )
        for kind in kinds[1:]
    )
    return Section(note + text + "\n![anchors compared](figure.svg)\n", ("figure.svg",), verdicts)


EXPERIMENTS = (
    Experiment(
        "constrained",
        "Constrained preference optimization",
        "DPO under LORE's constraint keeps more than DPO with KL at equal accuracy under drawn words.",
        25,
        run_constrained,
    ),
    Experiment(
        "word-anchors",
        "Anchors against words",
        "Which anchor helps CE, DPO, IPO and KTO most?",
        23,
        run_word_anchors,
        ONE_SEED,
    ),
)
