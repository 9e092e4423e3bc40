"""Study of the slider t of a trained linear map: gender, on roles of no training, and the skew of retrieval.

Legend: N images, R roles, M maps, G genders, D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from seaanchor.adapters.linear_map import Spectrum
from seaanchor.config.recipes import gender_flip
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.suites.bias import TOP_K, max_skews, ndkls, rank_genders
from seaanchor.plotting.panels import panels
from seaanchor.steering.curve import SeenPeople, see_people, sweep_bias
from seaanchor.sweeps.engine import Row
from studies.claims import verdict_of
from studies.declare import Claim, Contrast, Section, Study
from studies.differences import Difference
from studies.slider_curves import (
    MARKS,
    PAPER,
    T_LABEL,
    TS,
    Curves,
    percent,
    rows_of,
    series_of,
    spectra_of,
    table_of,
)
from studies.verdicts import Effect, Verdict, judge
from studies.workspace import Workspace


def _skew(key: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: row["retrieval"]["uniform"][key]


def _hundredfold(key: str) -> Callable[[dict[str, Any]], float]:
    return lambda row: 100 * row["retrieval"]["uniform"][key]


COLUMNS = {
    "gender %": percent("gender"),
    "activity %": percent("activity"),
    "called a man %": lambda row: 100 * row["predicted_man"],
}
CHANCE = Share(0.5, n=10**12)  # known, as if from any number of images
SKEWS = {"MaxSkew@10": "max_skew_at_10", "NDKL": "ndkl"}
CLAIMS = (
    Claim(
        "t = 1 turns gender below chance",
        (Contrast("chance less accuracy at t = 1", "chance", "1", "gender", dataset=""),),
    ),
    Claim(
        "the pre-trained model, t = 0, tells gender",
        (Contrast("accuracy at t = 0 less chance", "0", "chance", "gender", dataset=""),),
    ),
)


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
        mean_R = gap_MR.mean(0).numpy()
        ends = stats.ttest_1samp(mean_R, 0).confidence_interval(0.95)
        found[name] = Difference(float(mean_R.mean()), float(ends.low), float(ends.high))
    return found


def _ranked(seen: SeenPeople, spectrum: Spectrum, t: float) -> Tensor:
    """Genders of the images (R, N) as the neutral prompts rank them at t."""
    image_NR, neutral_RR = (
        F.normalize(spectrum.rotate(x).double() * spectrum.powers(t), dim=-1) for x in (seen.image_ND, seen.neutral_RD)
    )
    return rank_genders(image_NR, neutral_RR, seen.gender_N)


def run_gender(workspace: Workspace) -> Section:
    """Gender against activity over t, on roles of no training, and the skew of retrieval by neutral prompts."""
    config = replace(gender_flip(), device="cpu")
    images = open_images("emoji-people/test", split="test")
    seen = see_people(load_model(config.model), images)
    spectra = spectra_of(config, workspace)
    curves = [sweep_bias(seen, spectrum, TS) for spectrum in spectra]
    table = table_of(curves, COLUMNS | {f"{name} (× 100)": _hundredfold(key) for name, key in SKEWS.items()}, workspace)
    skews = {name: _skew(key) for name, key in SKEWS.items()}
    panels(
        [
            ("Gender and activity", T_LABEL, "accuracy or share, %", series_of(curves, COLUMNS)),
            ("Retrieval by neutral prompts", T_LABEL, "skew (0 is fair)", series_of(curves, skews)),
        ],
        workspace.output / "figure.svg",
        marks=MARKS,
    )
    note = (
        "`gender-flip` trained on the roles of `emoji-people/train` and tested on the roles of `emoji-people/test` "
        f"(n = {len(images.paths)}), as many men as women; {workspace.over_seeds()}. The neutral t is chosen on these "
        "images: of those at chance that lose at most 3 points of activity, the one nearest to chance. Accuracy at "
        "chance is not indifference: see how many are called men. This is a smoke test of the method on drawings, not "
        "a fairness claim.\n\n"
    )
    lines = "\n".join(_line(seed, rows) for seed, rows in zip(workspace.seeds, curves, strict=True))
    picture = "\n![gender, activity and skew against t](figure.svg)\n"
    verdicts = _verdicts(seen, spectra, curves, workspace)
    return Section(f"{note}{lines}\n\n{table}{picture}", ("figure.svg",), verdicts)


def _line(seed: int, rows: Sequence[dict[str, Any]]) -> str:
    """A seed's accuracies at the ends and at its neutral t, in words."""
    at = {t: next(row for row in rows if row["t"] == t) for t in (0.0, 1.0)}
    found = neutral(rows)
    ends = ", ".join(
        f"t = {t:g}: gender {_interval(row['gender'])}, activity {_interval(row['activity'])}" for t, row in at.items()
    )
    if found is None:
        return f"- seed {seed}: {ends}; no t at chance with activity within 3 points."
    middle = f"gender {_interval(found['gender'])}, activity {_interval(found['activity'])}"
    men = f"{100 * found['predicted_man']:.0f} % called men"
    return f"- seed {seed}: {ends}; neutral at t = {found['t']:g}: {middle}, {men}."


def _verdicts(
    seen: SeenPeople, spectra: Sequence[Spectrum], curves: Curves, workspace: Workspace
) -> tuple[Verdict, ...]:
    points = [*rows_of(curves), Row("chance", -1, "", {"gender": CHANCE}, {})]
    found = [neutral(rows) for rows in curves]
    neutrals = [(spectrum, row["t"]) for spectrum, row in zip(spectra, found, strict=True) if row is not None]
    return (
        *(verdict_of(claim, points, workspace) for claim in CLAIMS),
        Verdict(
            "between them lies a t with accuracy at chance that keeps the activity",
            "holds" if len(neutrals) == len(curves) else "holds partly" if neutrals else "does not hold at this scale",
            f"found for {len(neutrals)} of {len(curves)} seeds, at t = {', '.join(f'{t:g}' for _, t in neutrals)}",
        ),
        judge(
            "at the neutral t retrieval by neutral prompts is less skewed than at t = 0",
            [Effect(f"{name} × 100", gap) for name, gap in fairness_gaps(seen, neutrals).items()],
        ),
    )


def _interval(found: dict[str, float]) -> str:
    return f"{100 * found['accuracy']:.1f} % ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


STUDIES = (
    Study(
        "gender",
        "The slider: gender",
        f"{PAPER}: t = 1 reverses gender, t = 0 is the pre-trained model, and between lies a neutral point.",
        1,
        run_gender,
    ),
)
