"""Study of LORE on a tower without texts, with a linear head that is fitted once on the untouched features and then
stays.

Legend: N images, D features, C classes.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.config.schema import RunConfig
from seaanchor.data.loader import ImageDataset, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.data.types import labels_of, texts_of
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.load import load_model
from seaanchor.evaluation.attacks import AttackPlan
from seaanchor.evaluation.embeddings import embed_stream
from seaanchor.evaluation.statistics import share_of
from seaanchor.evaluation.zeroshot import evaluate_stream
from seaanchor.export.folder import export_model
from seaanchor.functional.gradients import frozen
from seaanchor.functional.logistic import fit_logistic
from seaanchor.plotting.panels import Series, panels
from seaanchor.sweeps.engine import Row
from seaanchor.sweeps.tables import share
from studies.claims import verdict_of
from studies.declare import Claim, Contrast, Section, Study, Table
from studies.engine import table_of
from studies.figures import points
from studies.lore_studies import PAPER
from studies.noise_arms import (
    ATTACK_STEPS,
    EPSILON,
    FARE,
    LORE,
    PENALTIES,
    PENALTY,
    RHO,
    SIBLING,
    fare_arm,
    lore_arm,
)
from studies.noise_tables import ATTACKED
from studies.pools import NOISE, OWN
from studies.rows import UNTOUCHED
from studies.workspace import ONE_SEED, PHOTOS, Workspace

SIZE = 32  # pixels
COLUMNS = (share("clean %", "clean"), *(share(f"{e}/255 %", f"apgd-ce {e}/255") for e in (2, EPSILON)))
CLAIM = Claim(
    "with a fixed linear head LORE keeps more clean accuracy than FARE and is no less robust",
    (Contrast("clean", LORE, FARE, "clean"), Contrast(f"{EPSILON}/255", LORE, FARE, ATTACKED, wanted=0)),
)
NOTE = (
    "The image tower of `seaanchor-tiny-32` is a timm ResNet-10-t of 512 pooled features, without texts. Its head is a "
    "logistic regression on the untouched features of `photos-mini/train`; it stays fixed. Budget as in the fronts "
    f"above, {{seeds}}; 800 photos, APGD-CE with {ATTACK_STEPS} steps.\n\n"
)


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
    how = f"resize_size={SIZE},interpolation=bicubic"  # as the sibling was trained
    return export_model(load_model("timm:resnet10t", str(weights), SIZE, preprocess=how), folder)


def run_tower(workspace: Workspace) -> Section:
    """Train FARE, LORE and a penalty on the bare tower, and measure all under the fixed head."""
    rows = _rows(workspace)
    text, table = table_of(rows, COLUMNS, workspace)
    _draw(table, workspace)
    body = NOTE.replace("{seeds}", workspace.over_seeds()) + text + "\n![clean against robust accuracy](figure.svg)\n"
    return Section(body, ("figure.svg",), (verdict_of(CLAIM, rows, workspace),))


def _rows(workspace: Workspace) -> list[Row]:
    recipes = {FARE: fare_arm(), LORE: lore_arm(RHO), PENALTY: PENALTIES[PENALTY]}
    settings = {name: NOISE.settings(config, workspace) for name, config in recipes.items()}
    base = f"timm:local-dir:{bare_tower(workspace.output / 'tower').absolute()}"
    arms: dict[str, RunConfig] = {
        name: replace(config, model=base, image_size=SIZE) for name, config in settings.items()
    }
    for name, config in arms.items():
        workspace.keep(name, config, model=f"timm, from the image tower of {SIBLING}")
    weight_CD, bias_C = linear_head(load_model(base, None, SIZE))
    rows = [headed_row(UNTOUCHED, -1, load_model(base, None, SIZE), weight_CD, bias_C)]
    for seed in workspace.seeds:
        for name, config in arms.items():
            run = OWN.train(name, config, seed, workspace)
            model = load_model(f"timm:local-dir:{(run / 'export').absolute()}", None, SIZE)
            rows.append(headed_row(name, seed, model, weight_CD, bias_C))
    return rows


def _draw(table: Table, workspace: Workspace) -> None:
    series = [Series(name, *points(table, [name], f"{EPSILON}/255 %", "clean %"), line=False) for name in table]
    x_label = f"robust accuracy at {EPSILON}/255, %"
    panels(
        [("A tower with a fixed linear head", x_label, "clean accuracy, %", series)], workspace.output / "figure.svg"
    )


def linear_head(model: LoadedModel) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and bias (C,) of logistic regression on raw features of the training photos."""
    images = open_images("photos-mini/train")
    stream = batches(
        ImageDataset(images, model.encoder.preprocessing), 100, workers=0, order=None, skip_log=SkipLog(images)
    )
    with torch.no_grad():
        feature_ND, index_N = embed_stream(model.encoder, stream)
    label_N = torch.tensor(labels_of(images))[index_N]
    mean_D, std_D = feature_ND.double().mean(0), feature_ND.double().std(0).clamp(min=1e-8)
    weight_CD, bias_C = fit_logistic((feature_ND.double() - mean_D) / std_D, label_N, len(texts_of(images)), 1e-2)
    weight_CD = weight_CD / std_D  # of raw features
    return weight_CD.float(), (bias_C - weight_CD @ mean_D).float()


def headed_row(name: str, seed: int, model: LoadedModel, weight_CD: Tensor, bias_C: Tensor) -> Row:
    """Clean and robust accuracy of a tower under the fixed head."""
    images = open_images(PHOTOS)
    plan = AttackPlan("apgd-ce", "linf", (2 / 255, EPSILON / 255), ATTACK_STEPS)
    stream = batches(
        ImageDataset(images, model.encoder.preprocessing), 100, workers=0, order=None, skip_log=SkipLog(images)
    )

    def classify(pixels_BCHW: Tensor) -> Tensor:
        return F.linear(model.encoder(pixels_BCHW).float(), weight_CD, bias_C)

    with frozen(model.encoder):
        found = evaluate_stream(classify, stream, (plan,))
    numbers = {"clean": share_of(found.clean_N)} | {
        f"{p.name} {round(255 * epsilon)}/255": share_of(standing_N)
        for (p, epsilon), standing_N in found.attacked.items()
    }
    return Row(name, seed, PHOTOS, numbers, {})


STUDIES = (
    Study(
        "lore-timm",
        "A tower without texts",
        f"{PAPER}: LORE holds for image-only towers with a fixed linear head.",
        5,
        run_tower,
        ONE_SEED,
    ),
)
