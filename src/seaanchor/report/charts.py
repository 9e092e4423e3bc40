"""The page's figures: trade-offs, accuracy against radius, the slider, training, and drift. Each gives themed SVG and
its caption.

Shares are drawn in per cent; whiskers and bands are 95 % intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seaanchor.plotting.svg import STAND_IN, colour, marker, plot, swatch
from seaanchor.report.measures import ATTACKS, Measure, Value, ball_text, radius
from seaanchor.report.sources import Run


@dataclass(frozen=True)
class Figure:
    """A picture with its title, a line below it, and a legend of (swatch, name) for what the page's own legend does not
    tell."""

    title: str
    svg: str
    note: str = ""
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Series:
    """A model on one data set: its number, which decides colour and marker, its name, and its measures."""

    number: int
    label: str
    measures: tuple[Measure, ...]

    def find(self, key: tuple[str, str, str]) -> Measure | None:
        """The measure of that key."""
        return next((m for m in self.measures if m.key == key), None)


FEW = 2  # models whose bands can be told apart
CLEAN = ("clean", "Clean images", "top-1")


def _whisker(value: Value) -> list[list[float]]:
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    return [[100 * max(0.0, value.value - low)], [100 * max(0.0, high - value.value)]]


def shared_radii(series: Sequence[Series]) -> list[Measure]:
    """Robust accuracies that every model of the data set has, of the strongest attack that they share, by radius."""
    shared = (
        set.intersection(*({m.key for m in s.measures if m.suite == "robust"} for s in series)) if series else set()
    )
    rows = [m for m in series[0].measures if m.key in shared] if series else []
    strongest = min((list(ATTACKS).index(m.attack) if m.attack in ATTACKS else len(ATTACKS) for m in rows), default=0)
    rows = [m for m in rows if (list(ATTACKS).index(m.attack) if m.attack in ATTACKS else len(ATTACKS)) == strongest]
    return sorted((m for m in rows if m.group == rows[0].group), key=lambda m: m.epsilon)


def focus(rows: Sequence[Measure], trained: float | None) -> Measure | None:
    """The radius that stands for all: that of training if it was evaluated, else the smallest."""
    positive = [m for m in rows if m.epsilon > 0]
    return next(
        (m for m in positive if trained is not None and abs(m.epsilon - trained) < 1e-9),
        positive[0] if positive else None,
    )


def trade_off(dataset: str, series: Sequence[Series], key: tuple[str, str, str], name: str) -> Figure | None:
    """Clean accuracy against another accuracy; a thin line leads from the reference to each model. None where nothing
    has both."""
    pairs = [(s, s.find(CLEAN), s.find(key)) for s in series]
    whole = [(s, clean, other) for s, clean, other in pairs if clean and other]
    if not whole:
        return None
    with plot(f"Clean accuracy against {name} on {dataset}") as (axes, done):
        drawn = set()
        for s, clean, other in whole:
            x, y = clean.reference, other.reference
            if x and y:
                axes.plot(
                    [100 * x.value, 100 * clean.value.value],
                    [100 * y.value, 100 * other.value.value],
                    color=colour(s.number),
                    lw=0.9,
                    alpha=0.55,
                )
                if (x.value, y.value) not in drawn:
                    drawn.add((x.value, y.value))
                    _point(axes, x, y, STAND_IN["muted"], "o", hollow=True)
            _point(axes, clean.value, other.value, colour(s.number), marker(s.number))
        axes.set(xlabel="clean top-1 accuracy, %", ylabel=f"{name}, %")
        axes.margins(0.12)
        _widen(axes)
    return Figure(dataset, done[0])


def _point(axes: Any, x: Value, y: Value, ink: str, shape: str, hollow: bool = False) -> None:
    axes.errorbar(
        100 * x.value,
        100 * y.value,
        xerr=_whisker(x),
        yerr=_whisker(y),
        color=ink,
        elinewidth=0.9,
        alpha=0.6,
        zorder=2,
        fmt="none",
    )
    face = STAND_IN["page"] if hollow else ink
    axes.plot(
        100 * x.value,
        100 * y.value,
        shape,
        markersize=6.5,
        markerfacecolor=face,
        markeredgecolor=ink,
        markeredgewidth=1.6,
        zorder=3,
        ls="none",
    )


def _widen(axes: Any, least: float = 10.0) -> None:
    """At least ten points to see on either axis, inside 0 to 100: a small difference must not look like a large one."""
    for get, put in ((axes.get_xlim, axes.set_xlim), (axes.get_ylim, axes.set_ylim)):
        low, high = get()
        grow = max(0.0, least - (high - low)) / 2
        put(max(-3.0, low - grow), min(103.0, high + grow))


def radius_curve(dataset: str, series: Sequence[Series], constant: float | None) -> Figure | None:
    """Accuracy against the radius, 0 being clean; the reference dashed. None with fewer than one radius."""
    rows = shared_radii(series)
    if not rows or any(s.find(CLEAN) is None for s in series):
        return None
    euclidean = rows[0].group.endswith("ℓ2")
    scale = 1 if euclidean else 255
    keys = [CLEAN, *(m.key for m in rows if m.epsilon > 0)]
    xs = [0.0, *(scale * m.epsilon for m in rows if m.epsilon > 0)]
    with plot(f"Accuracy against the radius of the attack on {dataset}") as (axes, done):
        if constant is not None:
            axes.axhline(100 * constant, color=STAND_IN["muted"], lw=1, ls=":")
            axes.annotate(
                "constant answer",
                (0, 100 * constant),
                xycoords=("axes fraction", "data"),
                xytext=(4, 3),
                textcoords="offset points",
                color=STAND_IN["muted"],
                fontsize=8.5,
            )
        first = [s.find(key) for s in series[:1] for key in keys]
        show = _band if len(series) <= FEW else _bars  # many bands hide each other
        if all(m and m.reference for m in first):
            show(axes, xs, [m.reference for m in first if m and m.reference], STAND_IN["muted"], "--", None)
        for i, s in enumerate(series):
            aside = 0.0 if show is _band else 0.012 * max(xs) * (i - (len(series) - 1) / 2)
            show(
                axes,
                [x + aside for x in xs],
                [m.value for key in keys if (m := s.find(key))],
                colour(s.number),
                "-",
                marker(s.number),
            )
        axes.set(
            xlabel="ε (ℓ2)" if euclidean else "ε, 255ths of the pixel range (ℓ∞)",
            ylabel="top-1 accuracy, %",
            ylim=(0, None),
        )
        axes.set_xticks(xs)
        axes.set_xticklabels([f"{x:.3g}" for x in xs])
    return Figure(dataset, done[0], f"{rows[0].group}. ε = 0 is the clean image.")


def _band(axes: Any, xs: Sequence[float], values: Sequence[Value], ink: str, dash: str, shape: str | None) -> None:
    ends = [(v.value if v.low is None else v.low, v.value if v.high is None else v.high) for v in values]
    axes.fill_between(xs, [100 * low for low, _ in ends], [100 * high for _, high in ends], color=ink, alpha=0.13, lw=0)
    axes.plot(xs, [100 * v.value for v in values], dash, color=ink, marker=shape, markersize=4.5)


def _bars(axes: Any, xs: Sequence[float], values: Sequence[Value], ink: str, dash: str, shape: str | None) -> None:
    whiskers = [[_whisker(v)[end][0] for v in values] for end in (0, 1)]
    axes.errorbar(xs, [100 * v.value for v in values], yerr=whiskers, fmt="none", color=ink, elinewidth=0.9, alpha=0.6)
    axes.plot(xs, [100 * v.value for v in values], dash, color=ink, marker=shape, markersize=5)


SLIDER = {
    "clean": ("clean images", 0, "-"),
    "attacked": ("wrong word drawn (T)", 1, "-"),
    "attack_word": ("drawn word wins", 3, "--"),
    "two_way": ("object above drawn word", 2, ":"),
    "reading": ("reading a drawn word", None, "-."),
    "gender": ("gender named rightly", 3, "-"),
    "activity": ("activity named rightly", 0, "-"),
}


def slider(run: Run) -> Figure | None:
    """What the exponent t of the trained linear map does."""
    found = (run.steering or {}).get("rows") or ()
    keys = [
        key
        for key in SLIDER
        if found and all(isinstance(row.get(key), dict) and "accuracy" in row[key] for row in found)
    ]
    if not keys:
        return None
    rows = sorted(found, key=lambda row: row["t"])
    with plot(f"Accuracies against t, {run.label}") as (axes, done):
        for t in (0.0, 1.0):
            axes.axvline(t, color=STAND_IN["muted"], lw=0.9, zorder=0)
        for key in keys:
            _, number, dash = SLIDER[key]
            ink = STAND_IN["muted"] if number is None else colour(number)
            values = [Value(row[key]["accuracy"], row[key].get("low"), row[key].get("high")) for row in rows]
            _band(axes, [row["t"] for row in rows], values, ink, dash, None)
        called = [(row["t"], 100 * row["predicted_man"]) for row in rows if "predicted_man" in row]
        if called:
            axes.plot(*zip(*called, strict=True), ":", color=STAND_IN["muted"])
            axes.axhline(50, color=STAND_IN["muted"], lw=0.9, zorder=0)
        axes.set(xlabel="t, exponent of the map's singular values", ylabel="accuracy or rate, %", ylim=(-2, 102))
    legend = tuple((swatch(SLIDER[key][1], "line", SLIDER[key][2]), SLIDER[key][0]) for key in keys)
    legend += ((swatch(None, "line", ":"), "called a man"),) if called else ()
    where = (run.steering or {}).get("data", "")
    return Figure(f"{run.label} on {where}", done[0], "t = 0 is the pre-trained model, t = 1 the trained map.", legend)


def training(runs: Sequence[tuple[int, Run]]) -> list[Figure]:
    """Clean distance, violation rate, multiplier and objective over the batches of each run, and accuracy on validation
    sets where it was looked at.

    Runs of a linear map are not in the first two: it may turn both embeddings together, which moves every embedding and
    changes no answer.
    """
    figures = []
    logged = [(number, run) for number, run in runs if run.rows]
    towers = [
        (number, run)
        for number, run in logged
        if _kind(run, "adapter") != "linear" and any("clean_distance" in row for row in run.rows)
    ]
    if towers:
        figures.append(
            _over_batches(
                towers,
                "clean_distance",
                "Distance of clean images from the reference",
                "relative squared distance",
                1.0,
                bounds=True,
                note="Mean of the batch. Dashed: ρ, what the run is held to or counted against.",
            )
        )
    compared = [
        (number, run)
        for number, run in logged
        if _kind(run, "adapter") != "linear" and any("violation_rate" in row for row in run.rows)
    ]
    if compared:
        note = "Share of clean images in the batch that are further from the reference than ρ."
        figures.append(
            _over_batches(compared, "violation_rate", "Violation rate", "share of the batch, %", 100.0, note=note)
        )
    for name, title, unit in (
        ("kl", "KL to the reference's class distributions", "nats"),
        ("orthogonality", "Map's distance from orthogonal", "‖WWᵀ − 1‖"),
    ):
        if having := [(number, run) for number, run in logged if any(name in row for row in run.rows)]:
            figures.append(
                _over_batches(
                    having, name, title, unit, 1.0, note="Mean of the batch's clean images." if name == "kl" else ""
                )
            )
    multiplied = [(number, run) for number, run in logged if any("multiplier" in row for row in run.rows)]
    if multiplied:
        note = "Line: mean over the batch's images. Band: 10 % to 90 % of them."
        figures.append(
            _over_batches(
                multiplied, "multiplier", "Multiplier λ", "λ", 1.0, ("multiplier_p10", "multiplier_p90"), note=note
            )
        )
    for kind in dict.fromkeys(
        _kind(run, "objective") for _, run in logged
    ):  # losses of different kinds are not to be compared
        alike = [(number, run) for number, run in logged if _kind(run, "objective") == kind]
        key = next(
            (
                key
                for key in ("loss", "adversarial_loss")
                if all(any(key in row for row in run.rows) for _, run in alike)
            ),
            None,
        )
        if key is not None:
            figures.append(
                _over_batches(
                    alike,
                    key,
                    f"Objective {kind}",
                    "loss",
                    1.0,
                    note="Mean over the batch's attacked images or preferences.",
                )
            )
    looked = [(number, run) for number, run in runs if run.looks]
    return figures + [
        _looks(name, looked)
        for name in sorted({name for _, run in looked for row in run.looks for name in row["eval"]})
    ]


def _kind(run: Run, part: str) -> str:
    return str((run.config.get(part) or {}).get("kind"))


def _over_batches(
    runs: Sequence[tuple[int, Run]],
    key: str,
    title: str,
    unit: str,
    scale: float,
    band: tuple[str, str] | None = None,
    bounds: bool = False,
    note: str = "",
) -> Figure:
    with plot(f"{title} over training") as (axes, done):
        for number, run in runs:
            rows = [row for row in run.rows if isinstance(row.get(key), int | float)]
            steps = [row["step"] for row in rows]
            if band and all(name in row for row in rows for name in band):
                axes.fill_between(
                    steps,
                    *([scale * row[name] for row in rows] for name in band),
                    color=colour(number),
                    alpha=0.16,
                    lw=0,
                )
            axes.plot(
                steps,
                [scale * row[key] for row in rows],
                color=colour(number),
                marker=marker(number) if len(rows) < 3 else None,
                markersize=4.5,
            )
        if bounds:
            for rho in sorted({row["rho"] for _, run in runs for row in run.rows if "rho" in row}):
                owners = [number for number, run in runs if any(row.get("rho") == rho for row in run.rows)]
                axes.axhline(
                    rho,
                    color=colour(owners[0]) if len(owners) == 1 and len(runs) > 1 else STAND_IN["ink"],
                    lw=1,
                    ls="--",
                )
        axes.set(xlabel="batch", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(bottom=0, top=103 if scale == 100 else None)
    return Figure(title, done[0], note)


def _looks(name: str, runs: Sequence[tuple[int, Run]]) -> Figure:
    with plot(f"Accuracy on {name} while training") as (axes, done):
        for number, run in runs:
            for key, dash in (
                ("clean", "-"),
                ("lettered", "-"),
                ("pgd", "--"),
                ("attacked", "--"),
                ("attack_word", ":"),
            ):
                rows = [
                    (row["step"], 100 * row["eval"][name][key]) for row in run.looks if key in row["eval"].get(name, {})
                ]
                if rows:
                    axes.plot(*zip(*rows, strict=True), dash, color=colour(number))
        axes.set(xlabel="batch", ylabel="top-1 accuracy, %", ylim=(0, None))
        axes.xaxis.get_major_locator().set_params(integer=True)
    note = (
        "Solid: images as they are. Dashed: attacked, by PGD at the training ε or by a drawn word. Dotted: "
        "the drawn word wins. "
        "A few images: a trend, not a result."
    )
    return Figure(f"{name} while training", done[0], note)


def drift(dataset: str, found: Sequence[tuple[int, dict[str, Any]]], bounds: Sequence[float]) -> Figure | None:
    """How far clean images have moved, by their rank, on a logarithmic scale; `found` holds each model's drift,
    `bounds` every ρ.

    Results of the first format have no deciles: median, 90 % and largest are drawn as points.
    """
    curves = [(number, *_curve(values)) for number, values in found]
    least = min((y for _, _, ys in curves for y in ys if y > 0), default=None)
    if least is None:
        return None
    with plot(f"Distance of clean images from the reference on {dataset}") as (axes, done):
        for number, shares, distances in curves:
            dash = "-" if len(distances) > len(QUANTILES) else "none"
            axes.plot(
                shares,
                [max(y, least) for y in distances],
                ls=dash,
                color=colour(number),
                marker=marker(number),
                markersize=4.5,
            )
        axes.set_yscale("log")
        for rho in sorted(set(bounds)):
            axes.axhline(rho, color=STAND_IN["ink"], lw=1, ls="--")
            axes.annotate(
                f"ρ = {rho:g}",
                (1, rho),
                xycoords=("axes fraction", "data"),
                xytext=(-3, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
                bbox={"boxstyle": "square,pad=0.1", "facecolor": STAND_IN["page"], "edgecolor": "none", "alpha": 0.75},
            )
        axes.set(xlabel="share of images that moved no further, %", ylabel="relative squared distance", xlim=(-2, 102))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")
        axes.tick_params(
            axis="y", which="minor", labelsize=9, width=0.5, color=STAND_IN["muted"], labelcolor=STAND_IN["ink"]
        )
    return Figure(dataset, done[0])


QUANTILES = {"p50": 50.0, "p90": 90.0, "max": 100.0}


def _curve(values: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Shares of images in per cent, and the distances that they do not exceed."""
    deciles = values.get("deciles")
    if deciles:
        return [100 * i / (len(deciles) - 1) for i in range(len(deciles))], list(deciles)
    return list(QUANTILES.values()), [values["distance"][key] for key in QUANTILES]


__all__ = [
    "Figure",
    "Series",
    "ball_text",
    "drift",
    "focus",
    "radius",
    "radius_curve",
    "shared_radii",
    "slider",
    "trade_off",
    "training",
]
