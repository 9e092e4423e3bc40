"""Experiments that look at robust models in other ways: other perturbations, interpretability, a tower without texts,
the slider on top."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.adapters.linear_map import decompose
from seaanchor.config.recipes import dpo_linear_tiny
from seaanchor.config.schema import RunConfig
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.data.types import labels_of, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.run import Protocol
from seaanchor.evaluation.statistics import proportion
from seaanchor.evaluation.suites.probe import fit_logistic
from seaanchor.evaluation.suites.registry import embed_stream
from seaanchor.evaluation.suites.typographic import TypographicPlan
from seaanchor.evaluation.zeroshot import evaluate_stream
from seaanchor.export.folder import export_model
from seaanchor.functional.gradients import frozen
from seaanchor.plotting.panels import Series, panels
from seaanchor.steering.curve import export_at, see_words, sweep_typographic
from seaanchor.sweeps.arms import Arm, run_arm
from seaanchor.sweeps.engine import EvaluationSpec, Row, measure
from seaanchor.sweeps.tables import share, value
from seaanchor.utils.checkpoint import write_atomic
from studies.ablations import tecoa_arms
from studies.experiment import ONE_SEED, Bench, Experiment, Section
from studies.lore import WEIGHT, middle, points, table_of
from studies.pool import (
    ATTACK_STEPS,
    EPSILON,
    FARE,
    LORE,
    PHOTOS,
    RHO,
    SIBLING,
    fare_arm,
    lore_arm,
    penalty_arm,
    pooled,
)
from studies.preference import untouched
from studies.verdicts import Effect, difference, judge
from studies.words import SIZES, word_run


def run_other(bench: Bench) -> Section:
    """Square, Gaussian noise, corruptions, and how well classes' prompts describe their images."""
    arms = {
        FARE: fare_arm(bench),
        LORE: lore_arm(bench, rho=RHO),
        f"penalty w={WEIGHT:g}": penalty_arm(bench, WEIGHT),
    } | tecoa_arms(bench)
    square = AttackPlan("square", "linf", (2 / 255, EPSILON / 255), 300)
    protocol = Protocol((square,), samples=200, suites=("noise", "corruptions", "interpretability"))
    rows = pooled(arms, bench, [EvaluationSpec((PHOTOS,), protocol)])
    columns = (
        share("clean %", "clean"),
        *(share(f"Square {e}/255 %", f"square {e}/255") for e in (2, EPSILON)),
        *(share(f"σ = {sigma} %", f"noise.sigma={sigma}") for sigma in (8, 16, 32, 64, 128)),
        share("corruptions %", "corruptions.mean"),
        value("cosine with own prompts", "interpretability.own"),
        value("with others", "interpretability.other"),
    )
    text, table = table_of([*untouched(rows), *rows], columns, bench)
    sigmas = (8, 16, 32, 64, 128)
    panels(
        [
            (
                "Gaussian noise",
                "σ in 255ths",
                "accuracy, %",
                [Series(name, sigmas, *_over(table[name], [f"σ = {sigma} %" for sigma in sigmas])) for name in table],
            )
        ],
        bench.output / "figure.svg",
        log=True,
    )
    note = (
        f"200 test photos, {bench.over_seeds()}; Square with 300 queries; corruptions: mean over 8 kinds and "
        "five severities of ImageNet-C; cosines of clean "
        "images with the mean of 80 prompts about their own class, and about the other classes.\n\n"
    )
    measures = {f"Square {EPSILON}/255": f"square {EPSILON}/255", "σ = 64": "noise.sigma=64"}
    more = [Effect(name, difference(rows, LORE, FARE, measure_, PHOTOS)) for name, measure_ in measures.items()]
    spread = [
        Effect("corruptions", difference(_counted(rows, "corruptions.mean"), LORE, FARE, "corruptions.mean", PHOTOS))
    ]
    verdicts = (judge("LORE is more accurate than FARE under Square, Gaussian noise and corruptions", more + spread),)
    return Section(note + text + "\n![accuracy under Gaussian noise](figure.svg)\n", ("figure.svg",), verdicts)


def _counted(rows: list[Row], measure_: str) -> list[Row]:
    """The same with the number of images behind a mean."""
    return [replace(row, numbers={measure_: row.numbers[measure_] | {"n": row.numbers["clean"]["n"]}}) for row in rows]


def _over(cells, titles) -> tuple[list[float], list[float], list[float]]:
    found = [cells[title] for title in titles]
    return [100 * c.mean for c in found], [100 * c.low for c in found], [100 * c.high for c in found]


def bare_tower(folder: Path) -> Path:
    """The sibling's image tower as a timm model: pooled features, no projection, no text."""
    import timm

    if folder.is_dir():
        return folder
    sibling: Any = load_model(SIBLING).module
    bare = timm.create_model("resnet10t", num_classes=0)
    bare.load_state_dict({k: v for k, v in sibling.visual.trunk.state_dict().items() if k in bare.state_dict()})
    weights = folder.with_name(f"{folder.name}.pt")
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save(bare.state_dict(), weights)
    return export_model(load_model("timm:resnet10t", str(weights), 32), folder)


def run_timm(bench: Bench) -> Section:
    """A tower without texts, with a linear head that is fitted once on the untouched features and then stays."""
    base = f"timm:local-dir:{bare_tower(bench.output / 'tower').absolute()}"
    arms = {
        name: replace(config, model=base, image_size=32)
        for name, config in (
            (FARE, fare_arm(bench)),
            (LORE, lore_arm(bench, rho=RHO)),
            (f"penalty w={WEIGHT:g}", penalty_arm(bench, WEIGHT)),
        )
    }
    for name, config in arms.items():
        bench.keep(name, config, model=f"timm, from the image tower of {SIBLING}")
    weight_CD, bias_C = _linear_head(load_model(base, None, 32))
    rows = [_headed("untouched", -1, load_model(base, None, 32), weight_CD, bias_C)]
    for seed in bench.seeds:
        for name, config in arms.items():
            run = run_arm(Arm(name, replace(config, seed=seed)), bench.output / f"seed-{seed}")
            rows.append(
                _headed(
                    name, seed, load_model(f"timm:local-dir:{(run / 'export').absolute()}", None, 32), weight_CD, bias_C
                )
            )
    columns = (share("clean %", "clean"), *(share(f"{e}/255 %", f"apgd-ce {e}/255") for e in (2, EPSILON)))
    text, table = table_of(rows, columns, bench)
    panels(
        [
            (
                "A tower with a fixed linear head",
                f"robust accuracy at {EPSILON}/255, %",
                "clean accuracy, %",
                [Series(name, *points(table, [name], f"{EPSILON}/255 %", "clean %"), line=False) for name in table],
            )
        ],
        bench.output / "figure.svg",
    )
    note = (
        "The image tower of `seaanchor-tiny-32` as a timm ResNet-10-t of 512 pooled features, without texts; "
        "logistic regression on the untouched features of "
        f"`photos-mini/train`, then fixed. Budget as in the fronts above, {bench.over_seeds()}; 800 photos, "
        f"APGD-CE with {ATTACK_STEPS} steps.\n\n"
    )
    verdict = judge(
        "with a fixed linear head LORE keeps more clean accuracy than FARE and is no less robust",
        [
            Effect("clean", difference(rows, LORE, FARE, "clean", PHOTOS)),
            Effect(f"{EPSILON}/255", difference(rows, LORE, FARE, f"apgd-ce {EPSILON}/255", PHOTOS), 0),
        ],
    )
    return Section(note + text + "\n![clean against robust accuracy](figure.svg)\n", ("figure.svg",), (verdict,))


def _linear_head(model: LoadedModel) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and bias (C,) of logistic regression on raw features of the training photos."""
    images = open_images("photos-mini/train")
    with torch.no_grad():
        feature_ND, index_N = embed_stream(
            model.encoder, batches(ImageDataset(images, 32), 100, workers=0, order=None, skip_log=SkipLog(images))
        )
    label_N = torch.tensor(labels_of(images))[index_N]
    mean_D, std_D = feature_ND.double().mean(0), feature_ND.double().std(0).clamp(min=1e-8)
    weight_CD, bias_C = fit_logistic((feature_ND.double() - mean_D) / std_D, label_N, len(texts_of(images)), 1e-2)
    weight_CD = weight_CD / std_D  # of raw features
    return weight_CD.float(), (bias_C - weight_CD @ mean_D).float()


def _headed(name: str, seed: int, model: LoadedModel, weight_CD: Tensor, bias_C: Tensor) -> Row:
    """Clean and robust accuracy of a tower under the fixed head."""
    images, plan = (
        open_images("photos-mini/test"),
        AttackPlan("apgd-ce", "linf", (2 / 255, EPSILON / 255), ATTACK_STEPS),
    )
    stream = batches(ImageDataset(images, 32), 100, workers=0, order=None, skip_log=SkipLog(images))
    with frozen(model.encoder):
        found = evaluate_stream(
            lambda pixels_BCHW: F.linear(model.encoder(pixels_BCHW).float(), weight_CD, bias_C), stream, (plan,)
        )
    numbers = {"clean": proportion(found.clean_N)} | {
        f"{p.name} {round(255 * epsilon)}/255": proportion(standing_N)
        for (p, epsilon), standing_N in found.attacked.items()
    }
    return Row(name, seed, PHOTOS, numbers, {})


TS = tuple(round(-1 + 0.1 * i, 1) for i in range(31))
FOLDED = (0.0, 0.5, 1.0, 2.0)


def run_slider_lore(bench: Bench) -> Section:
    """The slider trained on top of a robust tower: do words lose their power there, and does the robustness to noise
    stay?"""
    plan, images = TypographicPlan("odd", "unseen", SIZES), open_images("photos-mini/test")
    look = EvaluationSpec(
        (PHOTOS,),
        Protocol(
            (AttackPlan("apgd-ce", "linf", (1 / 255, 2 / 255), 10),),
            suites=("typographic", "reading"),
            typographic=plan,
            samples=400,
        ),
    )
    rows: list[Row] = []
    curves: dict[str, list] = {}
    for base in ("seaanchor-tiny", "seaanchor-tiny-lore"):
        seen = see_words(load_model(base), images, plan)
        config: RunConfig = replace(dpo_linear_tiny(), model=base, device="cpu")
        bench.keep(f"map on {base}", config)
        for seed in bench.seeds:
            run = word_run(config, seed, bench)
            curves.setdefault(base, []).append(sweep_typographic(seen, decompose(_map_of(run)), TS))
            for t in FOLDED:
                folder = bench.output / f"seed-{seed}" / f"{base} t={t:g}"
                model = folder if folder.is_dir() else export_at(run, t, folder)
                rows += measure(Arm(base, config), seed, model, [look], bench.output, f"{base}, t = {t:g}")
    columns = (
        share("clean %", "clean"),
        share("word drawn %", "typographic.attacked"),
        share("object above word %", "typographic.two_way"),
        share("reading %", "reading.reading"),
        share("noise 1/255 %", "apgd-ce 1/255"),
        share("noise 2/255 %", "apgd-ce 2/255"),
    )
    text, _ = table_of(rows, columns, bench)
    names = {"two_way": "object above word", "clean": "clean"}
    panels(
        [
            (
                base,
                "t, power of the singular values",
                "accuracy, %",
                [
                    Series(
                        label,
                        TS,
                        *middle([[100 * row[key]["accuracy"] for row in curve] for curve in found]),
                        marker=False,
                    )
                    for key, label in names.items()
                ],
            )
            for base, found in curves.items()
        ],
        bench.output / "figure.svg",
    )
    write_atomic(bench.output / "curves.csv", _csv(curves))
    note = (
        "`dpo-linear-tiny` on the untouched model and on `seaanchor-tiny-lore`, folded at four t; 400 "
        f"photos, {bench.over_seeds()}.\n\n"
    )
    on = "seaanchor-tiny-lore, t = "
    verdicts = (
        judge(
            "on a robust tower t = 1 helps against words, too",
            [
                Effect(
                    "object above word, t = 1 less t = 0",
                    difference(rows, f"{on}1", f"{on}0", "typographic.two_way", PHOTOS),
                )
            ],
        ),
        judge(
            "turning t leaves the robustness to noise",
            [
                Effect(
                    f"2/255, t = {t:g} less t = 0", difference(rows, f"{on}{t:g}", f"{on}0", "apgd-ce 2/255", PHOTOS), 0
                )
                for t in FOLDED[1:]
            ],
        ),
    )
    return Section(note + text + "\n![the slider on both towers](figure.svg)\n", ("figure.svg",), verdicts)


def _map_of(run: Path) -> Tensor:
    from seaanchor.export.trained import read_map

    return read_map(run)


def _csv(curves: dict[str, list]) -> str:
    lines = ["base,seed,t,clean,attacked,two_way,reading"]
    for base, found in curves.items():
        for seed, curve in enumerate(found):
            for row in curve:
                shares = (f"{row[key]['accuracy']:.6g}" for key in ("clean", "attacked", "two_way", "reading"))
                lines.append(",".join([base, str(seed), f"{row['t']:g}", *shares]))
    return "\n".join(lines) + "\n"


PAPER = "arXiv 2505.18884"

EXPERIMENTS = (
    Experiment(
        "lore-other",
        "Other perturbations, and interpretability",
        f"{PAPER}: LORE also helps under Square, noise and corruptions, and its embeddings stay near their "
        "classes' prompts.",
        17,
        run_other,
        ONE_SEED,
    ),
    Experiment(
        "lore-timm",
        "A tower without texts",
        f"{PAPER}: LORE holds for image-only towers with a fixed linear head.",
        5,
        run_timm,
        ONE_SEED,
    ),
    Experiment(
        "slider-lore", "The slider on a robust tower", "The slider t composes with LORE.", 6, run_slider_lore, ONE_SEED
    ),
)
