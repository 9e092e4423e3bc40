"""Experiments on words that neither paper has: constrained preference optimization, words and noise at once, every anchor compared."""

from collections.abc import Mapping
from dataclasses import replace

from seaanchor.config import AnchorConfig, ObjectiveConfig, PerturbationConfig, RunConfig
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.typographic import TypographicPlan
from seaanchor.experiments.arms import Arm
from seaanchor.experiments.engine import Look, measure, run_arms
from seaanchor.experiments.experiment import Bench, Experiment, Section
from seaanchor.experiments.figures import Series, panels
from seaanchor.experiments.lore import points, table_of
from seaanchor.experiments.pool import RHO
from seaanchor.experiments.preference import COLUMNS, untouched
from seaanchor.experiments.tables import Column, share
from seaanchor.experiments.verdicts import Effect, above_curve, difference, judge
from seaanchor.experiments.words import DRAWN, PASSES, PHOTOS, SIZES, short, word_rows
from seaanchor.recipes import dpo_tiny, ipo_tiny, kto_tiny, typographic_ce_tiny

T, O = "T, word drawn %", "O, clean %"  # noqa: E741 # the paper's letters


def _seeds(bench: Bench) -> str:
    return ", ".join(map(str, bench.seeds))


def _elsewhere(bench: Bench) -> Look:
    return Look(("emoji/test", *(path for name, path in bench.extra if name != "train")), Protocol((), samples=1000))


def _sets(bench: Bench) -> dict[str, str]:
    """What took no part in training, by label."""
    return {label: path for label, path in (("emoji", "emoji/test"), *bench.extra) if label != "train"}


def _others(bench: Bench) -> tuple[Column, ...]:
    return tuple(share(f"{label} %", "clean", path) for label, path in _sets(bench).items())


def _lagrangian(rho: float, on: str = "embedding", initial: float = 0.003) -> AnchorConfig:
    return AnchorConfig("lagrangian", on=on, rho=rho, dual_lr=5e-4, initial_multiplier=initial, max_multiplier=20.0)  # type: ignore[arg-type]


LAMBDAS, BOUNDS = (0.1, 1.0, 3.0, 10.0), (0.4, 0.2, 0.1, 0.05)


def run_constrained(bench: Bench) -> Section:
    """DPO held by KL over its weight, and by LORE's constraint over ρ: the whole front of both."""
    base = short(dpo_tiny())
    families = {
        "DPO + KL": {f"DPO + KL λ={weight:g}": replace(base, anchor=AnchorConfig("kl", weight=weight)) for weight in LAMBDAS},
        "DPO + Lagrangian": {f"DPO + Lagrangian ρ={rho:g}": replace(base, anchor=_lagrangian(rho)) for rho in BOUNDS},
    }
    arms = {name: config for family in families.values() for name, config in family.items()}
    rows = word_rows(arms, bench, [DRAWN, _elsewhere(bench)])
    columns = (*(replace(c, read=_on_photos(c)) for c in COLUMNS), *_others(bench))
    text, table = table_of([*untouched(rows), *rows], columns, bench)
    titles = [O, "reading %", *(c.title for c in _others(bench))]
    panels([(f"{title.removesuffix(' %')} against T", "accuracy with a wrong word drawn, %", f"{title.removesuffix(' %')}, %", [
        Series(family, *points(table, list(members), T, title), path=True) for family, members in families.items()
    ]) for title in titles], bench.output / "figure.svg")  # fmt: skip
    note = f"`dpo-tiny` with {PASSES} passes, last weights; seeds {_seeds(bench)}, mean and range; columns as in the table of all objectives.\n\n"
    every, curve = [*untouched(rows), *rows], list(families["DPO + KL"])[::-1]  # from strong to weak, so that T rises
    verdict = judge("DPO under LORE's constraint keeps more than DPO with KL at equal accuracy under drawn words", [
        Effect(f"{label} at ρ = {rho:g}", gap) for label, where in (*reversed(_sets(bench).items()), ("clean photos", PHOTOS)) for rho in BOUNDS
        if (gap := above_curve(every, f"DPO + Lagrangian ρ={rho:g}", ["untouched", *curve], "typographic.attacked", _clean(where), PHOTOS, where))
    ])  # fmt: skip
    return Section(note + text + "\n![what is kept against accuracy with a wrong word drawn](figure.svg)\n", ("figure.svg",), (verdict,))


def _clean(dataset: str) -> str:
    return "typographic.clean" if dataset == PHOTOS else "clean"


def _on_photos(column: Column):
    return lambda row: column.read(row) if row.dataset == PHOTOS else None


def _noise_tiny(recipe: RunConfig, kind: str) -> RunConfig:
    """100 batches of 32 photos at 64 pixels; noise of 1/255, words as `dpo-tiny` draws them."""
    attack = PerturbationConfig(kind, epsilon="1/255", num_steps=2, step_size="0.75/255", words="even", sizes=SIZES, variants=10)  # type: ignore[arg-type]
    return replace(
        recipe, train_data="photos-mini/train", perturbation=attack, batch_size=32, lr=1e-3, warmup=10, epochs=4, max_steps=100, optimizer="adamw",
        wd=1e-4, average="none", save_every=100, log_every=10, device="cpu",
    )  # fmt: skip


BOTH = Look((PHOTOS,), Protocol(
    (AttackPlan("apgd-ce", "linf", (1 / 255,), 10),), suites=("typographic", "words-and-noise"), samples=400,
    typographic=TypographicPlan("odd", "unseen", SIZES),
))  # fmt: skip


def joint_arms() -> tuple[dict[str, RunConfig], dict[str, tuple[str, RunConfig]]]:
    """Arms that start from the untouched model, and those that start from another arm's export."""
    pull, prefer = RunConfig(objective=ObjectiveConfig("embedding_distance")), replace(dpo_tiny(), anchor=AnchorConfig("kl", weight=1.0))
    first = {
        "words alone, FARE": _noise_tiny(pull, "typographic"), "noise alone, FARE": _noise_tiny(pull, "pgd"),
        "joint, FARE": _noise_tiny(pull, "typographic+pgd"),
        "words alone, DPO": _noise_tiny(prefer, "typographic"), "joint, DPO": _noise_tiny(prefer, "typographic+pgd"),
        "joint, FARE + Lagrangian": replace(_noise_tiny(pull, "typographic+pgd"), anchor=replace(_lagrangian(RHO, initial=1.0))),
    }  # fmt: skip
    then = {
        "words by DPO, then noise": ("words alone, DPO", first["noise alone, FARE"]),
        "noise, then words by DPO": ("noise alone, FARE", first["words alone, DPO"]),
    }  # fmt: skip
    return first, then


def run_joint(bench: Bench) -> Section:
    """One model robust to words and to noise: joint training, one after the other, and each alone; against each threat and against both at once."""
    first, then = joint_arms()
    look = [BOTH, _elsewhere(bench)]
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
            rows += measure(Arm(name, first[before]), seed, bench.output / f"seed-{seed}" / name / "export", look, bench.output)
    columns = (
        share("clean %", "typographic.clean", PHOTOS), share("word %", "typographic.attacked", PHOTOS),
        share("unreadable cover %", "typographic.unreadable", PHOTOS), share("noise 1/255 %", "apgd-ce 1/255", PHOTOS),
        share("worst of 3 words %", "words-and-noise.word", PHOTOS),
        share("word and noise %", "words-and-noise.apgd-ce 1/255", PHOTOS), *_others(bench),
    )  # fmt: skip
    text, table = table_of([*untouched(rows), *rows], columns, bench)
    names = list(table)
    panels([
        ("Two threats", "accuracy with a wrong word drawn, %", "accuracy under noise of 1/255, %", [
            Series(name, *points(table, [name], "word %", "noise 1/255 %"), line=False) for name in names
        ]),
        ("Both at once", "clean accuracy, %", "accuracy under word and noise, %", [
            Series(name, *points(table, [name], "clean %", "word and noise %"), line=False) for name in names
        ]),
    ], bench.output / "figure.svg")  # fmt: skip
    noise, word, both = "apgd-ce 1/255", "typographic.attacked", "words-and-noise.apgd-ce 1/255"

    def effect(what: str, one: str, other: str, measure_: str, wanted: int = 1) -> Effect:
        return Effect(f"{what}: {one} less {other}", difference(rows, one, other, measure_, PHOTOS), wanted)

    verdicts = (
        judge("one model can be robust to words and to noise at once, without loss on either", [
            effect("noise", "joint, FARE", "noise alone, FARE", noise, 0), effect("words", "joint, FARE", "words alone, FARE", word, 0),
        ]),
        judge("joint training beats one after the other against word and noise together", [
            effect("both", "joint, FARE", other, both) for other in ("words by DPO, then noise", "noise, then words by DPO")
        ]),
        judge("the second of two stages undoes the first", [
            effect("words", "words alone, DPO", "words by DPO, then noise", word), effect("noise", "noise alone, FARE", "noise, then words by DPO", noise),
        ]),
    )  # fmt: skip
    note = (
        f"`seaanchor-tiny`, `photos-mini/train`, 100 batches of 32 a stage, seeds {_seeds(bench)}, mean and range; 400 test photos. Words of odd "
        "number in unseen fonts (training: even, training fonts), noise by APGD-CE with 10 steps. *Word and noise*: the attacker draws three words, "
        "keeps the worst, and searches the ball around that picture.\n\n"
    )
    return Section(note + text + "\n![words against noise](figure.svg)\n", ("figure.svg",), verdicts)


def run_word_anchors(bench: Bench) -> Section:
    """Every anchor for the objectives against words."""
    objectives = {"CE": typographic_ce_tiny(), "DPO": dpo_tiny(), "IPO": ipo_tiny(), "KTO": kto_tiny()}
    scale = {"CE": 1.0, "DPO": 0.1, "IPO": 100.0, "KTO": 0.1}  # how steep a loss is at the start, so that an anchor weighs about as much beside each
    arms: dict[str, RunConfig] = {}
    for name, recipe in objectives.items():
        base, weight = short(recipe), scale[name]
        anchors: Mapping[str, AnchorConfig] = {
            "none": AnchorConfig(), "penalty": AnchorConfig("penalty", weight=0.01 * weight),
            "KL": recipe.anchor if name != "CE" else AnchorConfig("kl", weight=weight),
            "Lagrangian on embeddings": _lagrangian(0.1, initial=0.003 * weight),
            "Lagrangian on distributions": _lagrangian(0.1, "distribution", initial=0.1 * weight),
        }  # fmt: skip
        arms |= {f"{name} + {anchor}": replace(base, anchor=config) for anchor, config in anchors.items()}
    rows = word_rows(arms, bench, [DRAWN, _elsewhere(bench)])
    columns = (*(replace(c, read=_on_photos(c)) for c in COLUMNS), *_others(bench))
    text, table = table_of([*untouched(rows), *rows], columns, bench)
    kinds = ("none", "penalty", "KL", "Lagrangian on embeddings", "Lagrangian on distributions")
    panels([(f"{title.removesuffix(' %')} against T", "accuracy with a wrong word drawn, %", f"{title.removesuffix(' %')}, %", [
        Series(kind, *points(table, [f"{name} + {kind}" for name in objectives], T, title)[:2], line=False, kinds=list(objectives)) for kind in kinds
    ]) for title in (O, "emoji %")], bench.output / "figure.svg")  # fmt: skip
    note = f"The recipes of the table on drawn words with {PASSES} passes; seeds {_seeds(bench)}, mean and range.\n\n"
    verdicts = tuple(judge(f"{kind} keeps more of what {', '.join(objectives)} had, and words stay as powerless", [
        effect for name in objectives for effect in (
            Effect(f"{name} on emoji", difference(rows, f"{name} + {kind}", f"{name} + none", "clean", "emoji/test")),
            Effect(f"{name} under words", difference(rows, f"{name} + {kind}", f"{name} + none", "typographic.attacked", PHOTOS), 0),
        )
    ]) for kind in kinds[1:])  # fmt: skip
    return Section(note + text + "\n![anchors compared](figure.svg)\n", ("figure.svg",), verdicts)


EXPERIMENTS = (
    Experiment(
        "constrained", "Constrained preference optimization",
        "DPO under LORE's constraint keeps more than DPO with KL at equal accuracy under drawn words.", 30, run_constrained,
    ),
    Experiment("joint", "Words and noise", "One model can be robust to drawn words and to noise at once.", 40, run_joint),
    Experiment("word-anchors", "Anchors against words", "Which anchor helps CE, DPO, IPO and KTO most?", 35, run_word_anchors),
)  # fmt: skip
