"""Experiments on words and noise at once: one model against both, and an attacker with both means against every
model."""

from collections.abc import Mapping
from dataclasses import replace

from seaanchor.config.recipes import dpo_linear_tiny, dpo_tiny
from seaanchor.config.schema import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.suites.typographic import TypographicPlan
from seaanchor.plotting.panels import Series, panels
from seaanchor.steering.curve import export_at
from seaanchor.sweeps.arms import Arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure, run_arms
from seaanchor.sweeps.tables import Cell, share
from studies.beyond import elsewhere, lagrangian, set_columns
from studies.experiment import ONE_SEED, Bench, Experiment, Section
from studies.lore import points, table_of
from studies.pool import RHO
from studies.preference import untouched
from studies.verdicts import Effect, difference, judge
from studies.words import PHOTOS, SIZES, towers, word_rows, word_run


def _noise_tiny(recipe: RunConfig, kind: str) -> RunConfig:
    """100 batches of 32 photos at 64 pixels; noise of 1/255, words as `dpo-tiny` draws them."""
    attack = PerturbationConfig(
        kind, epsilon="1/255", num_steps=2, step_size="0.75/255", words="even", sizes=SIZES, variants=10
    )  # type: ignore[arg-type]
    return replace(
        recipe,
        train_data="photos-mini/train",
        perturbation=attack,
        batch_size=32,
        lr=1e-3,
        warmup=10,
        epochs=4,
        max_steps=100,
        optimizer="adamw",
        wd=1e-4,
        average="none",
        save_every=100,
        log_every=10,
        device="cpu",
    )


BOTH = EvaluationSpec(
    (PHOTOS,),
    Protocol(
        (AttackPlan("apgd-ce", "linf", (1 / 255,), 10),),
        suites=("typographic", "words-and-noise"),
        samples=400,
        typographic=TypographicPlan("odd", "unseen", SIZES),
    ),
)
NOISE, WORD, AT_ONCE = "apgd-ce 1/255", "typographic.attacked", "words-and-noise.apgd-ce 1/255"
COLUMNS = (
    share("clean %", "typographic.clean", PHOTOS),
    share("word %", WORD, PHOTOS),
    share("unreadable cover %", "typographic.unreadable", PHOTOS),
    share("noise 1/255 %", NOISE, PHOTOS),
    share("worst of 3 words %", "words-and-noise.word", PHOTOS),
    share("word and noise %", AT_ONCE, PHOTOS),
)
ATTACKER = (
    "400 test photos. Words of odd number in unseen fonts (training: even, training fonts), noise by APGD-CE "
    "with 10 steps. *Word and noise*: the "
    "attacker knows the model, draws three words, keeps the worst, and searches the ball around that picture."
)


def _figure(table: Mapping[str, Mapping[str, Cell]], bench: Bench) -> None:
    axes = {
        "Two threats": (
            "accuracy with a wrong word drawn, %",
            "accuracy under noise of 1/255, %",
            "word %",
            "noise 1/255 %",
        ),
        "Both at once": ("clean accuracy, %", "accuracy under word and noise, %", "clean %", "word and noise %"),
    }
    panels(
        [
            (title, x, y, [Series(name, *points(table, [name], across, up), line=False) for name in table])
            for title, (x, y, across, up) in axes.items()
        ],
        bench.output / "figure.svg",
    )


def joint_arms() -> tuple[dict[str, RunConfig], dict[str, tuple[str, RunConfig]]]:
    """Arms that start from the untouched model, and those that start from another arm's export."""
    pull, prefer = (
        RunConfig(objective=ObjectiveConfig("embedding_distance")),
        replace(dpo_tiny(), anchor=AnchorConfig("kl", weight=1.0)),
    )
    first = {
        "words alone, FARE": _noise_tiny(pull, "typographic"),
        "noise alone, FARE": _noise_tiny(pull, "pgd"),
        "joint, FARE": _noise_tiny(pull, "typographic+pgd"),
        "words alone, DPO": _noise_tiny(prefer, "typographic"),
        "joint, DPO": _noise_tiny(prefer, "typographic+pgd"),
        "joint, FARE + Lagrangian": replace(_noise_tiny(pull, "typographic+pgd"), anchor=lagrangian(RHO, initial=1.0)),
    }
    then = {
        "words by DPO, then noise": ("words alone, DPO", first["noise alone, FARE"]),
        "noise, then words by DPO": ("noise alone, FARE", first["words alone, DPO"]),
    }
    return first, then


def run_joint(bench: Bench) -> Section:
    """One model robust to words and to noise: joint training, one after the other, and each alone; against each threat
    and against both at once."""
    first, then = joint_arms()
    look = [BOTH, elsewhere(bench)]
    for name, config in first.items():
        bench.keep(name, config)
    for name, (before, config) in then.items():
        bench.keep(name, config, model=f"the export of: {before}")
    rows = run_arms([Arm(name, config) for name, config in first.items()], bench.seeds, look, bench.output)
    for seed in bench.seeds:
        for name, (before, config) in then.items():
            start = str(bench.output / f"seed-{seed}" / before / "export")
            found = run_arms([Arm(name, replace(config, model=start))], (seed,), [], bench.output)
            assert not found
            rows += measure(
                Arm(name, first[before]), seed, bench.output / f"seed-{seed}" / name / "export", look, bench.output
            )
    text, table = table_of([*untouched(rows), *rows], (*COLUMNS, *set_columns(bench)), bench)
    _figure(table, bench)

    def effect(what: str, one: str, other: str, measure_: str, wanted: int = 1) -> Effect:
        return Effect(f"{what}: {one} less {other}", difference(rows, one, other, measure_, PHOTOS), wanted)

    verdicts = (
        judge(
            "one model can be robust to words and to noise at once, without loss on either",
            [
                effect("noise", "joint, FARE", "noise alone, FARE", NOISE, 0),
                effect("words", "joint, FARE", "words alone, FARE", WORD, 0),
            ],
        ),
        judge(
            "joint training beats one after the other against word and noise together",
            [
                effect("both", "joint, FARE", other, AT_ONCE)
                for other in ("words by DPO, then noise", "noise, then words by DPO")
            ],
        ),
        judge(
            "the second of two stages undoes the first",
            [
                effect("words", "words alone, DPO", "words by DPO, then noise", WORD),
                effect("noise", "noise alone, FARE", "noise, then words by DPO", NOISE),
            ],
        ),
    )
    note = (
        "`seaanchor-tiny`, `photos-mini/train`, 100 batches of 32 a stage, which are 200 where there are "
        f"two, {bench.over_seeds()}. {ATTACKER}\n\n"
    )
    return Section(note + text + "\n![words against noise](figure.svg)\n", ("figure.svg",), verdicts)


HARDENED = ("seaanchor-tiny-fare", "seaanchor-tiny-lore")  # the variants that the package ships


def run_adaptive(bench: Bench) -> Section:
    """The attacker with a word and noise, against the towers aligned against words, the towers hardened against noise,
    and the slider on one of these."""
    aligned = towers()
    rows = [*word_rows(aligned, bench, [BOTH]), *_hardened(bench)]
    text, table = table_of([*untouched(rows), *rows], COLUMNS, bench)
    _figure(table, bench)
    every, steered = [*untouched(rows), *rows], f"{HARDENED[1]}, t = 1"

    def over(one: str, other: str = "untouched") -> Effect:
        return Effect(f"{one} less {other}", difference(every, one, other, AT_ONCE, PHOTOS))

    verdicts = (
        judge("alignment against words alone helps against word and noise together", [over(name) for name in aligned]),
        judge("hardening against noise alone helps against word and noise together", [over(name) for name in HARDENED]),
        judge("the slider on a hardened tower helps against word and noise together", [over(steered, HARDENED[1])]),
    )
    note = (
        "Towers of the table on drawn words, and the robust models of the package (FARE with one update a "
        "batch, LORE with two); "
        f"{bench.over_seeds()}. {ATTACKER}\n\n"
    )
    return Section(note + text + "\n![words against noise](figure.svg)\n", ("figure.svg",), verdicts)


def _hardened(bench: Bench) -> list[Row]:
    """The robust models of the package, which no seed changes, and the slider at t = 1 on the second."""
    shared, base = bench.output.parent / "words", replace(dpo_tiny(), device="cpu")
    rows = [row for name in HARDENED for row in measure(Arm(name, base), -1, name, [BOTH], shared)]
    steered = replace(dpo_linear_tiny(), model=HARDENED[1], device="cpu")
    bench.keep(f"{HARDENED[1]}, t = 1", steered)
    for seed in bench.seeds:
        folder = bench.output / f"seed-{seed}" / f"{HARDENED[1]} t=1"
        model = folder if folder.is_dir() else export_at(word_run(steered, seed, bench), 1.0, folder)
        rows += measure(Arm(HARDENED[1], base), seed, model, [BOTH], shared, f"{HARDENED[1]}, t = 1")
    return rows


EXPERIMENTS = (
    Experiment(
        "joint", "Words and noise", "One model can be robust to drawn words and to noise at once.", 40, run_joint
    ),
    Experiment(
        "adaptive",
        "An attacker with a word and noise",
        "What alignment against words and hardening against noise are worth against both at once.",
        10,
        run_adaptive,
        ONE_SEED,
    ),
)
