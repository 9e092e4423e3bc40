"""Experiments on the slider t of a trained linear map (arXiv 2411.08923): objects against reading, and gender."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.adapters.linear_map import Spectrum, decompose
from seaanchor.config.recipes import dpo_linear_tiny, gender_flip
from seaanchor.config.schema import RunConfig
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.suites.bias import TOP_K, max_skews, ndkls, rank_genders
from seaanchor.evaluation.suites.typographic import TypographicPlan
from seaanchor.export.trained import read_map
from seaanchor.plotting.panels import Series, panels
from seaanchor.steering.curve import SeenPeople, see_people, see_words, sweep_bias, sweep_typographic
from seaanchor.sweeps.engine import Row
from seaanchor.utils.checkpoint import write_atomic
from studies.experiment import Bench, Experiment, Section
from studies.verdicts import Difference, Effect, Verdict, difference, judge
from studies.words import word_run

TS = tuple(round(-2 + 0.05 * i, 2) for i in range(81))
SHOWN = (-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

Curves = list[list[dict[str, Any]]]
"""For every seed the rows of a sweep over t."""


def _spectra(config: RunConfig, bench: Bench) -> list[Spectrum]:
    """The map of every seed, decomposed."""
    bench.keep("map", config)
    return [decompose(read_map(word_run(config, seed, bench))) for seed in bench.seeds]


def _over_seeds(curves: Curves, i: int, read) -> tuple[float, float, float]:
    values = [read(rows[i]) for rows in curves]
    return mean(values), min(values), max(values)


def _table(curves: Curves, columns: dict[str, Any], bench: Bench) -> str:
    """Markdown at a few t; CSV at all."""
    lines = [f"| t | {' | '.join(columns)} |", "|" + " --- |" * (len(columns) + 1)]
    csv = [",".join(["t", *(f"{name},{name} min,{name} max" for name in columns)])]
    for i, t in enumerate(TS):
        cells = {name: _over_seeds(curves, i, read) for name, read in columns.items()}
        csv.append(",".join([f"{t:g}", *(f"{m:.6g},{low:.6g},{high:.6g}" for m, low, high in cells.values())]))
        if t in SHOWN:
            shown = [
                f"{m:.1f} ({low:.1f} to {high:.1f})" if f"{low:.1f}" != f"{high:.1f}" else f"{m:.1f}"
                for m, low, high in cells.values()
            ]
            lines.append(f"| {t:g} | {' | '.join(shown)} |")
    write_atomic(bench.output / "table.csv", "\n".join(csv) + "\n")
    return "\n".join(lines) + "\n"


def _series(curves: Curves, columns: dict[str, Any]) -> list[Series]:
    found = []
    for name, read in columns.items():
        cells = [_over_seeds(curves, i, read) for i in range(len(TS))]
        middle, low, high = (list(values) for values in zip(*cells, strict=True))
        found.append(Series(name, TS, middle, low, high, marker=False))
    return found


def _share(key: str):
    return lambda row: 100 * row[key]["accuracy"]


def _skew(desired: str, key: str):
    return lambda row: row["retrieval"][desired][key]


MARKS = ((0.0, "pre-trained"), (1.0, "trained map"))


def run_slider(bench: Bench) -> Section:
    """Objects against reading over t, words and fonts of no training."""
    config = replace(
        dpo_linear_tiny(), device="cpu"
    )  # β = 1: at the 0.1 of the tables singular values fall to 1e-5, and negative t destroys the model
    plan = TypographicPlan("odd", "unseen", (config.perturbation.sizes[0], config.perturbation.sizes[1]))
    seen = see_words(load_model(config.model), open_images("photos-mini/test"), plan)
    spectra = _spectra(config, bench)
    curves = [sweep_typographic(seen, spectrum, TS) for spectrum in spectra]
    columns = {
        "clean photos %": _share("clean"),
        "wrong word drawn %": _share("attacked"),
        "drawn word wins %": _share("attack_word"),
        "object above word %": _share("two_way"),
        "reading %": _share("reading"),
    }
    table = _table(curves, columns, bench)
    panel = (
        "Objects against reading",
        "t, power of the singular values",
        "accuracy or rate, %",
        _series(curves, columns),
    )
    panels([panel], bench.output / "figure.svg", marks=MARKS)
    low, high = min(s.s_R.min().item() for s in spectra), max(s.s_R.max().item() for s in spectra)
    note = (
        f"`dpo-linear-tiny`, {bench.over_seeds()}; n = 800 photos and 400 drawn words. Singular values of the "
        "trained maps lie between "
        f"{low:.2g} and {high:.2g}; t = 0 is the pre-trained model.\n\n"
    )
    rows = _rows(curves)
    verdicts = (
        judge(
            "t beyond 0 helps the object against the drawn word",
            [
                Effect(f"object above word, t = {t:g} less t = 0", difference(rows, f"{t:g}", "0", "two_way", ""))
                for t in (1.0, 2.0)
            ],
        ),
        judge(
            "t beyond 0 costs reading",
            [
                Effect(f"reading, t = 0 less t = {t:g}", difference(rows, "0", f"{t:g}", "reading", ""))
                for t in (1.0, 2.0)
            ],
        ),
        judge(
            "negative t goes the other way and leaves clean accuracy",
            [
                Effect("object above word, t = 0 less t = -1", difference(rows, "0", "-1", "two_way", "")),
                Effect("reading, t = -1 less t = 0", difference(rows, "-1", "0", "reading", "")),
                Effect("clean, t = -1 less t = 0", difference(rows, "-1", "0", "clean", ""), 0),
            ],
        ),
    )
    return Section(note + table + "\n![accuracies against t](figure.svg)\n", ("figure.svg",), verdicts)


def _rows(curves: Curves) -> list[Row]:
    """The points of all curves as arms named by their t."""
    return [
        Row(
            f"{row['t']:g}",
            seed,
            "",
            {key: cell for key, cell in row.items() if isinstance(cell, dict) and "accuracy" in cell},
            {},
        )
        for seed, rows in enumerate(curves)
        for row in rows
    ]


def neutral(rows: Sequence[dict[str, Any]], activity_lost: float = 0.03) -> dict[str, Any] | None:
    """The row with the predicted gender nearest to chance, of those whose interval holds one half and whose activity
    accuracy is at most `activity_lost` below that at t = 0; None if there is none."""
    start = next(row for row in rows if row["t"] == 0)["activity"]["accuracy"]
    at_chance = [r for r in rows if r["gender"]["low"] <= 0.5 <= r["gender"]["high"]]
    fair = [r for r in at_chance if r["activity"]["accuracy"] >= start - activity_lost]
    return min(fair, key=lambda r: abs(r["gender"]["accuracy"] - 0.5), default=None)


def fairness_gaps(seen: SeenPeople, chosen: Sequence[tuple[Spectrum, float]]) -> dict[str, Difference]:
    """How much more skewed a map's retrieval is at t = 0 than at its own t, in hundredths: mean over maps and roles,
    the interval over roles."""
    equal_G = torch.full((2,), 0.5, dtype=torch.float64)
    skews = {
        f"MaxSkew@{TOP_K}": lambda ranked_RN: max_skews(ranked_RN, equal_G, TOP_K),
        "NDKL": lambda ranked_RN: ndkls(ranked_RN, equal_G),
    }
    found: dict[str, Difference] = {}
    for name, skew in skews.items() if chosen else ():
        gap_MR = torch.stack(
            [100 * (skew(_ranked(seen, spectrum, 0.0)) - skew(_ranked(seen, spectrum, t))) for spectrum, t in chosen]
        )
        middle, error = gap_MR.mean().item(), (gap_MR.mean(0).std() / math.sqrt(gap_MR.shape[1])).item()
        found[name] = Difference(middle, middle - 1.96 * error, middle + 1.96 * error)
    return found


def _ranked(seen: SeenPeople, spectrum: Spectrum, t: float) -> Tensor:
    """Genders of the images (R, N) as the neutral prompts rank them at t."""
    image_NR, neutral_RR = (
        F.normalize(spectrum.rotate(x).double() * spectrum.powers(t), dim=-1) for x in (seen.image_ND, seen.neutral_RD)
    )
    return rank_genders(image_NR, neutral_RR, seen.gender_N)


def run_gender(bench: Bench) -> Section:
    """Gender against activity over t, on roles of no training, and the skew of retrieval by neutral prompts."""
    config = replace(gender_flip(), device="cpu")
    images = open_images("emoji-people/test", split="test")
    seen = see_people(load_model(config.model), images)
    spectra = _spectra(config, bench)
    curves = [sweep_bias(seen, spectrum, TS) for spectrum in spectra]
    columns = {
        "gender %": _share("gender"),
        "activity %": _share("activity"),
        "called a man %": lambda row: 100 * row["predicted_man"],
    }
    skew = {
        "MaxSkew@10": _skew("uniform", "max_skew_at_10"),
        "NDKL": _skew("uniform", "ndkl"),
    }
    percent = {f"{name} (× 100)": (lambda row, read=read: 100 * read(row)) for name, read in skew.items()}
    table = _table(curves, columns | percent, bench)
    panels(
        [
            (
                "Gender and activity",
                "t, power of the singular values",
                "accuracy or share, %",
                _series(curves, columns),
            ),
            (
                "Retrieval by neutral prompts",
                "t, power of the singular values",
                "skew (0 is fair)",
                _series(curves, skew),
            ),
        ],
        bench.output / "figure.svg",
        marks=MARKS,
    )
    lines = []
    for seed, rows in zip(bench.seeds, curves, strict=True):
        at = {t: next(row for row in rows if row["t"] == t) for t in (0.0, 1.0)}
        found = neutral(rows)
        said = ", ".join(
            f"t = {t:g}: gender {_interval(row['gender'])}, activity {_interval(row['activity'])}"
            for t, row in at.items()
        )
        if found is None:
            middle = "no t at chance with activity within 3 points"
        else:
            middle = (
                f"neutral at t = {found['t']:g}: gender {_interval(found['gender'])}, activity "
                f"{_interval(found['activity'])}"
            )
            middle += f", {100 * found['predicted_man']:.0f} % called men"
        lines.append(f"- seed {seed}: {said}; {middle}.")
    note = (
        "`gender-flip` trained on the roles of `emoji-people/train`, looked at on the roles of "
        f"`emoji-people/test` (n = {len(images.paths)}), "
        f"as many men as women; {bench.over_seeds()}. The neutral t is chosen on these images: of those at "
        "chance that lose at most 3 points of activity, the "
        "one nearest to chance. Accuracy at chance is not indifference: see how many are called men. A smoke "
        "test of the method on drawings, not a fairness "
        "claim.\n\n"
    )
    picture = "\n![gender, activity and skew against t](figure.svg)\n"
    return Section(
        note + "\n".join(lines) + "\n\n" + table + picture, ("figure.svg",), _gender_verdicts(seen, spectra, curves)
    )


def _gender_verdicts(seen: SeenPeople, spectra: Sequence[Spectrum], curves: Curves) -> tuple[Verdict, ...]:
    points = [*_rows(curves), Row("chance", -1, "", {"gender": {"accuracy": 0.5, "n": math.inf}}, {})]
    neutrals = [found for found in map(neutral, curves) if found is not None]
    fairer = fairness_gaps(
        seen,
        [(spectrum, found["t"]) for spectrum, rows in zip(spectra, curves, strict=True) if (found := neutral(rows))],
    )
    return (
        judge(
            "t = 1 turns gender below chance",
            [Effect("chance less accuracy at t = 1", difference(points, "chance", "1", "gender", ""))],
        ),
        judge(
            "the pre-trained model, t = 0, tells gender",
            [Effect("accuracy at t = 0 less chance", difference(points, "0", "chance", "gender", ""))],
        ),
        Verdict(
            "between them lies a t with accuracy at chance that keeps the activity",
            "holds" if len(neutrals) == len(curves) else "holds partly" if neutrals else "does not hold at this scale",
            f"found for {len(neutrals)} of {len(curves)} seeds, at t = "
            f"{', '.join(format(found['t'], 'g') for found in neutrals)}",
        ),
        judge(
            "at the neutral t retrieval by neutral prompts is less skewed than at t = 0",
            [Effect(f"{name} × 100", gap) for name, gap in fairer.items()],
        ),
    )


def _interval(found: dict[str, float]) -> str:
    return f"{100 * found['accuracy']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


PAPER = "arXiv 2411.08923"

EXPERIMENTS = (
    Experiment(
        "slider",
        "The slider: objects against reading",
        f"{PAPER}: t trades reading for seeing, with the pre-trained model at t = 0.",
        2,
        run_slider,
    ),
    Experiment(
        "gender",
        "The slider: gender",
        f"{PAPER}: t = 1 reverses gender, t = 0 is the pre-trained model, and between lies a neutral point.",
        1,
        run_gender,
    ),
)
