"""Study of the slider t trained on top of a robust tower: does it help against words there, and does the robustness to
noise stay?"""

from dataclasses import replace

from seaanchor.adapters.linear_map import decompose
from seaanchor.config.recipes import dpo_linear_tiny
from seaanchor.data.sources import open_images
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.steering_record import SteeringPoint
from seaanchor.evaluation.typographic_plan import TypographicPlan
from seaanchor.export.trained import read_map
from seaanchor.plotting.panels import Series, panels
from seaanchor.steering.embeddings import see_words
from seaanchor.steering.export import export_at
from seaanchor.steering.sweep import sweep_typographic
from seaanchor.sweeps.arms import Arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure
from seaanchor.sweeps.tables import share
from seaanchor.utils.checkpoint import write_atomic
from studies.claims import verdict_of
from studies.declare import Claim, Contrast, Section, Study
from studies.engine import table_of
from studies.figures import middle
from studies.pools import word_run
from studies.word_arms import SIZES
from studies.workspace import ONE_SEED, PHOTOS, Workspace

TS = tuple(round(-1 + 0.1 * i, 1) for i in range(31))
FOLDED = (0.0, 0.5, 1.0, 2.0)
BASES = ("seaanchor-tiny", "seaanchor-tiny-lore")
PLAN = TypographicPlan("odd", "unseen", SIZES)
SPEC = EvaluationSpec(
    (PHOTOS,),
    Protocol(
        (AttackPlan("apgd-ce", "linf", (1 / 255, 2 / 255), 10),),
        suites=("typographic", "reading"),
        typographic=PLAN,
        samples=400,
    ),
)
COLUMNS = (
    share("clean %", "clean"),
    share("word drawn %", "typographic.attacked"),
    share("object above word %", "typographic.two_way"),
    share("reading %", "reading.reading"),
    share("noise 1/255 %", "apgd-ce 1/255"),
    share("noise 2/255 %", "apgd-ce 2/255"),
)
DRAWN = {"two_way": "object above word", "clean": "clean"}  # key of a sweep → label in the figure
NOTE = (
    "`dpo-linear-tiny` on the untouched model and on `seaanchor-tiny-lore`, folded at four t; 400 photos, {seeds}.\n\n"
)
_ON = f"{BASES[1]}, t = "
CLAIMS = (
    Claim(
        "on a robust tower t = 1 helps against typographic attacks, too",
        (Contrast("object above word, t = 1 less t = 0", f"{_ON}1", f"{_ON}0", "typographic.two_way"),),
    ),
    Claim(
        "turning t leaves the robustness to noise",
        tuple(
            Contrast(f"2/255, t = {t:g} less t = 0", f"{_ON}{t:g}", f"{_ON}0", "apgd-ce 2/255", wanted=0)
            for t in FOLDED[1:]
        ),
    ),
)

Curves = dict[str, list[list[SteeringPoint]]]
"""Base model → for every seed the rows of a sweep over t."""


def run_robust_slider(workspace: Workspace) -> Section:
    """Train a map on each base, sweep t over its spectrum, and measure what is folded at four t."""
    rows, curves = _measured(workspace)
    text, _ = table_of(rows, COLUMNS, workspace)
    _draw(curves, workspace)
    write_atomic(workspace.output / "curves.csv", _csv(curves))
    body = NOTE.replace("{seeds}", workspace.over_seeds()) + text + "\n![the slider on both towers](figure.svg)\n"
    return Section(body, ("figure.svg",), tuple(verdict_of(claim, rows, workspace) for claim in CLAIMS))


def _measured(workspace: Workspace) -> tuple[list[Row], Curves]:
    images = open_images(PHOTOS)
    rows: list[Row] = []
    curves: Curves = {}
    for base, model_of in zip(BASES, (BASES[0], f"models/{BASES[1]}"), strict=True):
        seen = see_words(load_model(model_of), images, PLAN)
        config = replace(dpo_linear_tiny(), model=model_of, device="cpu")
        workspace.keep(f"map on {base}", config)
        for seed in workspace.seeds:
            run = word_run(config, seed, workspace)
            curves.setdefault(base, []).append(sweep_typographic(seen, decompose(read_map(run)), TS))
            for t in FOLDED:
                folder = workspace.output / f"seed-{seed}" / f"{base} t={t:g}"
                model = folder if folder.is_dir() else export_at(run, t, folder)
                rows += measure(Arm(f"{base}, t = {t:g}", config), seed, model, [SPEC], workspace.output)
    return rows, curves


def _draw(curves: Curves, workspace: Workspace) -> None:
    many = []
    for base, found in curves.items():
        series = [
            Series(
                label,
                TS,
                *middle([[100 * point.shares[key].accuracy for point in curve] for curve in found]),
                marker=False,
            )
            for key, label in DRAWN.items()
        ]
        many.append((base, "t, power of the singular values", "accuracy, %", series))
    panels(many, workspace.output / "figure.svg")


def _csv(curves: Curves) -> str:
    lines = ["base,seed,t,clean,attacked,two_way,reading"]
    for base, found in curves.items():
        for seed, curve in enumerate(found):
            for point in curve:
                shares = (f"{point.shares[key].accuracy:.6g}" for key in ("clean", "attacked", "two_way", "reading"))
                lines.append(",".join([base, str(seed), f"{point.t:g}", *shares]))
    return "\n".join(lines) + "\n"


STUDIES = (
    Study(
        "slider-lore",
        "The slider on a robust tower",
        "The slider t composes with LORE.",
        6,
        run_robust_slider,
        ONE_SEED,
    ),
)
