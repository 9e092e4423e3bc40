"""Study of the slider t of a trained linear map: gender, on roles of no training, and the skew of retrieval.

Legend: N images, R roles, M maps, G genders, D features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

from seaanchor.adapters.linear_map import Spectrum
from seaanchor.config.recipes import gender_flip
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.statistics import Share
from seaanchor.evaluation.steering_record import SteeringPoint
from seaanchor.evaluation.suites.bias import TOP_K, max_skews, ndkls, rank_genders
from seaanchor.plotting.panels import panels
from seaanchor.steering.embeddings import SeenPeople, see_people
from seaanchor.steering.sweep import sweep_bias
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
    Read,
    percent,
    rows_of,
    series_of,
    spectra_of,
    table_of,
)
from studies.verdicts import Effect, Verdict, judge
from studies.workspace import Workspace


def _skew(key: str) -> Read:
    return lambda point: point.retrieval["uniform"][key]


def _hundredfold(key: str) -> Read:
    return lambda point: 100 * point.retrieval["uniform"][key]


def _men(point: SteeringPoint) -> float:
    """Share of the people called a man, in %."""
    if point.predicted_man is None:
        raise ValueError(f"no gender was measured at t = {point.t:g}")
    return 100 * point.predicted_man


COLUMNS = {
    "gender %": percent("gender"),
    "activity %": percent("activity"),
    "called a man %": _men,
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


def neutral(points: Sequence[SteeringPoint], activity_lost: float = 0.03) -> SteeringPoint | None:
    """The point with the predicted gender nearest to chance, of those whose interval holds one half and whose activity
    accuracy is at most `activity_lost` below that at t = 0; None if there is none."""
    gender, activity = ({p.t: p.shares[key] for p in points} for key in ("gender", "activity"))
    fair = [
        p for p in points if _holds(gender[p.t], 0.5) and activity[p.t].accuracy >= activity[0].accuracy - activity_lost
    ]
    return min(fair, key=lambda p: abs(gender[p.t].accuracy - 0.5), default=None)


def _holds(share: Share, value: float) -> bool:
    """Whether the interval of a share holds a value."""
    return share.low is not None and share.high is not None and share.low <= value <= share.high


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
    lines = "\n".join(_line(seed, points) for seed, points in zip(workspace.seeds, curves, strict=True))
    picture = "\n![gender, activity and skew against t](figure.svg)\n"
    verdicts = _verdicts(seen, spectra, curves, workspace)
    return Section(f"{note}{lines}\n\n{table}{picture}", ("figure.svg",), verdicts)


def _line(seed: int, points: Sequence[SteeringPoint]) -> str:
    """A seed's accuracies at the ends and at its neutral t, in words."""
    at = {t: next(p.shares for p in points if p.t == t) for t in (0.0, 1.0)}
    found = neutral(points)
    ends = ", ".join(f"t = {t:g}: {_gender_activity(shares)}" for t, shares in at.items())
    if found is None:
        return f"- seed {seed}: {ends}; no t at chance with activity within 3 points."
    men = f"{_men(found):.0f} % called men"
    return f"- seed {seed}: {ends}; neutral at t = {found.t:g}: {_gender_activity(found.shares)}, {men}."


def _gender_activity(shares: Mapping[str, Share]) -> str:
    return f"gender {_interval(shares['gender'])}, activity {_interval(shares['activity'])}"


def _verdicts(
    seen: SeenPeople, spectra: Sequence[Spectrum], curves: Curves, workspace: Workspace
) -> tuple[Verdict, ...]:
    rows = [*rows_of(curves), Row("chance", -1, "", {"gender": CHANCE}, {})]
    found = [neutral(points) for points in curves]
    neutrals = [(spectrum, p.t) for spectrum, p in zip(spectra, found, strict=True) if p is not None]
    return (
        *(verdict_of(claim, rows, workspace) for claim in CLAIMS),
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


def _interval(share: Share) -> str:
    low, high = (100 * (share.accuracy if end is None else end) for end in (share.low, share.high))
    return f"{100 * share.accuracy:.1f} % ({low:.1f} to {high:.1f})"


STUDIES = (
    Study(
        "gender",
        "The slider: gender",
        f"{PAPER}: t = 1 reverses gender, t = 0 is the pre-trained model, and between lies a neutral point.",
        1,
        run_gender,
    ),
)
