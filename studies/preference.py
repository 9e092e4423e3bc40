"""Experiments on preference optimization (arXiv 2411.08923): drawn words, retention, ablations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean

from seaanchor.config.recipes import dpo_tiny
from seaanchor.config.schema import RunConfig
from seaanchor.evaluation.run import Protocol
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.arms import Arm, one
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure, save_rows
from seaanchor.sweeps.tables import Cell, Column, as_csv, markdown, share, summarise
from seaanchor.utils.checkpoint import write_atomic
from studies.experiment import ONE_SEED, Bench, Experiment, Section
from studies.mixing import interpolate
from studies.verdicts import Effect, Verdict, above_curve, difference, judge
from studies.words import DRAWN, PASSES, PHOTOS, maps, short, towers, word_rows, word_run

UNTOUCHED = "untouched"


def _closed(row: Row) -> float | None:
    """Share of the gap between the untouched model's accuracy under drawn words and the model's own ceiling that is
    closed."""
    base, ceiling = (
        source["typographic." + key]["accuracy"]
        for source, key in ((row.reference, "attacked"), (row.numbers, "unreadable"))
    )
    return (
        None
        if row.arm == UNTOUCHED or ceiling <= base
        else (row.numbers["typographic.attacked"]["accuracy"] - base) / (ceiling - base)
    )


COLUMNS = (
    share("O, clean %", "typographic.clean"),
    share("T, word drawn %", "typographic.attacked"),
    share("drawn word wins %", "typographic.attack_word"),
    share("object above word %", "typographic.two_way"),
    share("unreadable cover %", "typographic.unreadable"),
    Column("gap closed %", _closed, 0),
    share("reading %", "reading.reading"),
)


def untouched(rows: Sequence[Row]) -> list[Row]:
    """The reference's own numbers as an arm of their own, once a data set."""
    seen = {row.dataset: row for row in reversed(rows)}
    return [replace(row, arm=UNTOUCHED, seed=-1, numbers=row.reference) for row in reversed(seen.values())]


def _table(
    rows: Sequence[Row], columns: Sequence[Column], bench: Bench, name: str = "table"
) -> tuple[str, dict[str, dict[str, Cell]]]:
    table = summarise(rows, columns)
    write_atomic(bench.output / f"{name}.csv", as_csv(table, columns))
    return markdown(table, columns), table


def run_typographic(bench: Bench) -> Section:
    """Every objective on the tower and on the map, with words and fonts that no training saw."""
    arms = {f"{name}, tower": config for name, config in towers().items()} | {
        f"{name}, map": config for name, config in maps().items()
    }
    rows = word_rows(arms, bench, [DRAWN])
    every = [*untouched(rows), *rows]
    save_rows(every, bench.output / "rows.json")
    text, table = _table(every, COLUMNS, bench)
    series = []
    for kind, ending in (("untouched", UNTOUCHED), ("tower", ", tower"), ("linear map", ", map")):
        mine = {name.partition(",")[0]: cells for name, cells in table.items() if name.endswith(ending)}
        series.append(
            Series(
                kind,
                _means(mine.values(), "O, clean %"),
                _means(mine.values(), "T, word drawn %"),
                line=False,
                kinds=list(mine),
            )
        )
    panels(
        [("What the cure costs", "accuracy on clean photos, %", "accuracy with a wrong word drawn, %", series)],
        bench.output / "figure.svg",
    )
    note = (
        "n = 800 photos of `photos-mini/test`, drawn words of odd number in unseen fonts (training: even "
        "number, training fonts). *Unreadable "
        "cover*: the same box and colours with glyphs nobody can read, the cost of being covered; *gap "
        "closed*: of the way from the untouched "
        "model's T to the model's own accuracy under that cover. Towers: the recipes `typographic-ce-tiny`, "
        "`dpo-tiny`, `ipo-tiny`, `kto-tiny`, "
        f"`dpo-lore-tiny` with {PASSES} passes over the 800 training photos; maps: `dpo-linear-tiny` (60 "
        "passes) with the "
        "objective of each tower, CE without anchor, IPO with a KL of 30, DPO + Lagrangian with its "
        "constraint on class distributions (ρ = 0.1). Last weights, "
        f"not averaged; {bench.over_seeds()}.\n\n"
    )
    picture = "\n![clean accuracy against accuracy with a wrong word drawn](figure.svg)\n"
    return Section(note + text + picture, ("figure.svg",), (_power(every, "tower"), _power(every, "map")))


def _power(rows: Sequence[Row], adapter: str) -> Verdict:
    """Against the untouched model: accuracy with a wrong word drawn, and without."""
    effects = []
    for name in ("DPO + KL", "IPO + KL", "KTO + KL"):
        arm = f"{name}, {adapter}"
        effects.append(Effect(f"{name}: T", difference(rows, arm, UNTOUCHED, "typographic.attacked", PHOTOS)))
        effects.append(Effect("clean", difference(rows, arm, UNTOUCHED, "typographic.clean", PHOTOS), 0))
    what = {"tower": "on the tower", "map": "on one linear map"}[adapter]
    return judge(f"preference optimization {what} raises accuracy under drawn words and keeps clean accuracy", effects)


ALPHAS = (0.3, 0.6, 1.0)


def run_retention(bench: Bench) -> Section:
    """Zero-shot accuracy on sets that took no part, at equal accuracy under drawn words: each model and its
    interpolations with the reference."""
    look = EvaluationSpec(tuple(bench.elsewhere().values()), Protocol((), samples=1000))
    rows: list[Row] = []
    for name, config in towers().items():
        for seed in bench.seeds:
            print(f"{name}, seed {seed}", flush=True)
            bench.keep(name, config)
            tuned = word_run(config, seed, bench) / "export"
            for alpha in ALPHAS:
                mixed = bench.output / "mixed" / f"seed-{seed}" / f"{name} alpha={alpha:g}"
                model = tuned if alpha == 1 else interpolate(config.model, str(tuned), alpha, mixed)
                rows += measure(
                    Arm(name, config), seed, model, [DRAWN, look], bench.output.parent / "words", f"{name} α={alpha:g}"
                )
    every = [*untouched(rows), *rows]
    save_rows(every, bench.output / "rows.json")
    labels = {path: label for label, path in bench.elsewhere().items()}
    columns = (
        share("T, word drawn %", "typographic.attacked", PHOTOS),
        share("O, clean %", "typographic.clean", PHOTOS),
        share("reading %", "reading.reading", PHOTOS),
        *(share(f"{label} %", "clean", path) for path, label in labels.items()),
    )
    text, table = _table(every, columns, bench)
    figure = [
        (
            label,
            "accuracy with a wrong word drawn, %",
            f"accuracy on {label}, %",
            [
                Series(
                    name,
                    _means(_curve(table, name), "T, word drawn %"),
                    _means(_curve(table, name), f"{label} %"),
                    path=True,
                )
                for name in towers()
            ],
        )
        for label in labels.values()
    ]
    panels(figure, bench.output / "figure.svg")
    levels = _at_equal(table, [f"{label} %" for label in labels.values()] + ["reading %"])
    note = (
        "α mixes the weights of the reference (0) and of the trained model (1), so that every method is a "
        "curve and can be read at equal accuracy under "
        f"drawn words; {bench.over_seeds()}; {_counts(rows, labels)}.\n\n"
    )
    picture = "\n![accuracy elsewhere against accuracy with a wrong word drawn](figure.svg)\n"
    verdicts = (
        _kept(every, "CE", ("DPO + KL", "IPO + KL", "KTO + KL"), labels),
        _kept(every, "DPO + KL", ("DPO + Lagrangian",), labels),
    )
    return Section(note + text + "\n" + levels + picture, ("figure.svg",), verdicts)


def _kept(rows: Sequence[Row], base: str, others: Sequence[str], labels: dict[str, str]) -> Verdict:
    """Accuracy elsewhere above another method's curve, of the mixture of each method that is most accurate under drawn
    words, at that accuracy."""
    curve, attacked = [UNTOUCHED, *(f"{base} α={a:g}" for a in ALPHAS)], "typographic.attacked"

    def most(name: str) -> str:
        seen = {
            arm: [r.numbers[attacked]["accuracy"] for r in rows if r.arm == arm and r.dataset == PHOTOS]
            for arm in (f"{name} α={a:g}" for a in ALPHAS)
        }
        return max(seen, key=lambda arm: mean(seen[arm]))

    effects = [
        Effect(f"{most(name)} on {label}", above_curve(rows, most(name), curve, attacked, "clean", PHOTOS, path))
        for name in others
        for path, label in labels.items()
    ]
    named = {"CE": "cross-entropy", "DPO + KL": "DPO with KL"}[base]
    whose = "preference optimization" if len(others) > 1 else "DPO under LORE's constraint"
    return judge(f"{whose} retains more than {named} at equal T", effects)


def _counts(rows: Sequence[Row], labels: dict[str, str]) -> str:
    """How many images each column stands on."""
    count = {row.dataset: int(row.numbers["clean"]["n"]) for row in rows}
    return "n = " + ", ".join(f"{n:,} of {labels.get(dataset, PHOTOS)}" for dataset, n in count.items())


def _means(cells: Iterable[dict[str, Cell]], title: str) -> list[float]:
    return [100 * cell[title].mean for cell in cells]


def _curve(table: dict[str, dict[str, Cell]], name: str) -> list[dict[str, Cell]]:
    """From the untouched model to the trained one."""
    return [table[UNTOUCHED], *(table[f"{name} α={a:g}"] for a in ALPHAS)]


def _at_equal(table: dict[str, dict[str, Cell]], titles: Sequence[str]) -> str:
    """What every method retains at the same T: read off its curve between two mixtures, at the largest T that all
    reach."""
    curves = {name: _curve(table, name) for name in towers()}
    level = min(max(c["T, word drawn %"].mean for c in curve) for curve in curves.values())
    head = f"At T = {100 * level:.1f} %, the most that all reach, between the two nearest mixtures:\n"
    lines = [head, f"| | {' | '.join(titles)} |", "|" + " --- |" * (len(titles) + 1)]
    for name, curve in curves.items():
        cells = [
            f"{100 * crossing([c['T, word drawn %'].mean for c in curve], [c[t].mean for c in curve], level):.1f}"
            for t in titles
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def crossing(x: Sequence[float], y: Sequence[float], level: float) -> float:
    """y where a broken line first reaches x = level, from its start.

    >>> crossing([0.0, 1.0, 3.0], [10.0, 8.0, 0.0], 2.0)
    4.0
    """
    for i in range(1, len(x)):
        if x[i] >= level > x[i - 1]:
            share_ = (level - x[i - 1]) / (x[i] - x[i - 1])
            return y[i - 1] + share_ * (y[i] - y[i - 1])
    return y[max(range(len(x)), key=lambda i: x[i])]


BETAS, WEIGHTS, DRAWINGS, PHOTO_COUNTS = (
    (0.01, 0.05, 0.1, 0.3, 1.0, 2.0),
    (0.1, 0.3, 1.0, 3.0, 10.0),
    (1, 3, 10),
    (100, 200, 400, 800),
)
UPDATES = 52  # whatever the number of photos


@dataclass(frozen=True)
class _Contrast:
    """A value of the setting less another one, of a share on a data set, and the sign that the claim asks of it."""

    name: str
    one: float
    other: float
    measure: str = "typographic.attacked"
    dataset: str = PHOTOS
    wanted: int = 1


@dataclass(frozen=True)
class _Ablation:
    """An experiment that varies one setting of `dpo-tiny`; `run` is what an `Experiment` takes. `named` makes the name
    of an arm of its value."""

    setting: str
    values: Sequence[float]
    label: str
    named: str
    claim: str
    contrasts: Sequence[_Contrast]
    log: bool = True
    remark: str = ""
    base: RunConfig = field(default_factory=lambda: short(dpo_tiny()))

    def run(self, bench: Bench) -> Section:
        look = EvaluationSpec((PHOTOS, "emoji/test"), DRAWN.protocol)
        arms = {self.named.format(value): one(self.base, {self.setting: value}).config for value in self.values}
        rows = word_rows(arms, bench, [look])
        columns = (*(replace(c, read=_on(PHOTOS, c)) for c in COLUMNS), share("emoji %", "clean", "emoji"))
        text, table = _table([*untouched(rows), *rows], columns, bench)
        titles = {
            "O, clean %": "clean photos",
            "T, word drawn %": "wrong word drawn",
            "drawn word wins %": "drawn word wins",
            "unreadable cover %": "unreadable cover",
            "reading %": "reading a word",
            "emoji %": "emoji, took no part",
        }
        series = []
        for measure_, name in titles.items():
            middle, low, high = (
                [100 * getattr(table[arm][measure_], end) for arm in arms] for end in ("mean", "low", "high")
            )
            series.append(Series(name, self.values, middle, low, high))
        panels(
            [(f"DPO against drawn words: {self.label}", self.label, "accuracy or rate, %", series)],
            bench.output / "figure.svg",
            log=self.log,
        )
        note = (
            f"`dpo-tiny` with {UPDATES} updates and other values of `{self.setting}`, {bench.over_seeds()}; "
            "columns as in the table of all objectives."
            f"{self.remark}\n\n"
        )
        return Section(
            note + text + f"\n![measures against {self.label}](figure.svg)\n", ("figure.svg",), (self._judge(rows),)
        )

    def _judge(self, rows: Sequence[Row]) -> Verdict:
        return judge(
            self.claim,
            [
                Effect(
                    c.name,
                    difference(rows, self.named.format(c.one), self.named.format(c.other), c.measure, c.dataset),
                    c.wanted,
                )
                for c in self.contrasts
            ],
        )


BETA = _Ablation(
    "objective.beta",
    BETAS,
    "β",
    "β = {:g}",
    "a larger β takes drawn words less of their power and keeps more",
    (
        _Contrast("T, β = 0.01 less β = 0.1", 0.01, 0.1),
        _Contrast("T, β = 0.1 less β = 1", 0.1, 1.0),
        _Contrast("reading, β = 1 less β = 0.1", 1.0, 0.1, "reading.reading"),
        _Contrast("emoji, β = 1 less β = 0.1", 1.0, 0.1, "clean", "emoji/test"),
    ),
)
LAMBDA = _Ablation(
    "anchor.weight",
    WEIGHTS,
    "λ",
    "λ = {:g}",
    "a larger λ takes drawn words less of their power and keeps more",
    (
        _Contrast("T, λ = 0.1 less λ = 10", 0.1, 10.0),
        _Contrast("reading, λ = 10 less λ = 0.1", 10.0, 0.1, "reading.reading"),
        _Contrast("emoji, λ = 10 less λ = 0.1", 10.0, 0.1, "clean", "emoji/test"),
    ),
)
VARIANTS = _Ablation(
    "perturbation.variants",
    DRAWINGS,
    "drawings of each photo",
    "drawings: {:g}",
    "more drawings of each photo help against drawn words",
    (
        _Contrast("T, 3 less 1", 3, 1),
        _Contrast("T, 10 less 1", 10, 1),
    ),
    log=False,
    remark=" Each photo is seen four times, each time with one of its drawings at random, so that of ten at "
    "most four are seen.",
)
DATA = _Ablation(
    "train_samples",
    PHOTO_COUNTS,
    "training photos",
    "{:g} photos",
    "few photos are enough at an equal number of updates",
    tuple(
        _Contrast(f"{what}, {count} photos less 800", count, 800, *where, wanted=0)
        for what, where in (("T", ("typographic.attacked", PHOTOS)), ("emoji", ("clean", "emoji/test")))
        for count in PHOTO_COUNTS[:-1]
    ),
    log=False,
    base=replace(short(dpo_tiny()), epochs=100, max_steps=UPDATES),
)


def _on(dataset: str, column: Column):
    return lambda row: column.read(row) if row.dataset == dataset else None


PAPER = "arXiv 2411.08923"

EXPERIMENTS = (
    Experiment(
        "typographic",
        "Words drawn on images",
        f"{PAPER}, table 1: preference optimization raises accuracy under drawn words and keeps clean accuracy.",
        25,
        run_typographic,
    ),
    Experiment(
        "retention",
        "What is retained",
        f"{PAPER}: preference optimization retains more of a model than cross-entropy does.",
        30,
        run_retention,
    ),
    Experiment("po-beta", "The sharpness β", f"{PAPER} sweeps β from 0.01 to 2.", 7, BETA.run, ONE_SEED),
    Experiment("po-lambda", "The weight λ of the KL", f"{PAPER} sweeps λ from 0.01 to 2.", 6, LAMBDA.run, ONE_SEED),
    Experiment(
        "po-variants",
        "Drawings of each image",
        f"{PAPER}: more typographic variants of each image help.",
        4,
        VARIANTS.run,
        ONE_SEED,
    ),
    Experiment("po-data", "Data size", f"{PAPER}: few images are enough.", 5, DATA.run, ONE_SEED),
)
