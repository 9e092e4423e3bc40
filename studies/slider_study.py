"""Study of the slider t of a trained linear map: objects against reading."""

from dataclasses import replace
from functools import partial

from seaanchor.config.recipes import RECIPES
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.plotting.panels import panels
from seaanchor.steering.embeddings import see_words
from seaanchor.steering.sweep import sweep_typographic
from studies.claims import verdict_of
from studies.declare import Claim, Contrast, Section, Study
from studies.real_arms import TEST
from studies.slider_curves import MARKS, PAPER, T_LABEL, TS, percent, rows_of, series_of, spectra_of, table_of
from studies.workspace import PHOTOS, Workspace

COLUMNS = {
    "clean photos %": percent("clean"),
    "wrong word drawn %": percent("attacked"),
    "drawn word wins %": percent("attack_word"),
    "object above word %": percent("two_way"),
    "reading %": percent("reading"),
}


def _less(what: str, one: float, other: float, measure: str, wanted: int = 1) -> Contrast:
    label = f"{what}, t = {one:g} less t = {other:g}"
    return Contrast(label, f"{one:g}", f"{other:g}", measure, dataset="", wanted=wanted)


def _claims(where: str) -> tuple[Claim, ...]:
    return (
        Claim(
            f"{where}t beyond 0 helps the object against the drawn word",
            tuple(_less("object above word", t, 0, "two_way") for t in (1, 2)),
        ),
        Claim(f"{where}t beyond 0 costs reading", tuple(_less("reading", 0, t, "reading") for t in (1, 2))),
        Claim(
            f"{where}negative t goes the other way and leaves clean accuracy",
            (
                _less("object above word", 0, -1, "two_way"),
                _less("reading", -1, 0, "reading"),
                _less("clean", -1, 0, "clean", 0),
            ),
        ),
    )


def run_slider(workspace: Workspace, recipe: str, photos: str, where: str = "") -> Section:
    """Objects against reading over t, words and fonts of no training.

    Args:
        workspace: of the study.
        recipe: of the linear map.
        photos: labelled photos to measure on.
        where: how the claims begin.
    """
    # β = 1: at the 0.1 of the tables singular values fall to 1e-5, and negative t destroys the model
    config = replace(RECIPES[recipe](), device="cpu")
    plan = TypographicPlan("odd", "unseen", (config.perturbation.sizes[0], config.perturbation.sizes[1]))
    seen = see_words(load_model(config.model), open_images(photos), plan)
    spectra = spectra_of(config, workspace)
    curves = [sweep_typographic(seen, spectrum, TS) for spectrum in spectra]
    table = table_of(curves, COLUMNS, workspace)
    panel = ("Objects against reading", T_LABEL, "accuracy or rate, %", series_of(curves, COLUMNS))
    panels([panel], workspace.output / "figure.svg", marks=MARKS)
    low, high = min(s.s_R.min().item() for s in spectra), max(s.s_R.max().item() for s in spectra)
    note = (
        f"`{recipe}`, {workspace.over_seeds()}; n = 800 photos and 400 drawn words. The singular values of the "
        f"trained maps lie between {low:.2g} and {high:.2g}; t = 0 is the pre-trained model.\n\n"
    )
    verdicts = tuple(verdict_of(claim, rows_of(curves), workspace) for claim in _claims(where))
    return Section(note + table + "\n![accuracies against t](figure.svg)\n", ("figure.svg",), verdicts)


CLAIM = f"{PAPER}: t trades reading for seeing, with the pre-trained model at t = 0."
STUDIES = (
    Study(
        "real-slider",
        "A real tower: the slider",
        CLAIM,
        8,
        partial(run_slider, recipe="dpo-linear-lite", photos=TEST, where="on a real tower "),
    ),
    Study(
        "slider",
        "The slider: objects against reading",
        CLAIM,
        2,
        partial(run_slider, recipe="dpo-linear-tiny", photos=PHOTOS),
    ),
)
