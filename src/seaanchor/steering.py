"""`seaanchor steer`: what a trained linear map does at every t, from embeddings computed once; and its export at one t.

Legend: N images, M pictures of words, C classes, R roles, D embedding dimension.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seaanchor.adapters.linear_map import scale_spectrum, without_rotation
from seaanchor.config import read_yaml
from seaanchor.data.folder import FolderDataset, ImageList, SkipLog, batches
from seaanchor.data.sources import open_images
from seaanchor.encoders.encoder import LoadedModel
from seaanchor.encoders.head import build_head
from seaanchor.encoders.load import load_model
from seaanchor.errors import SeaAnchorError
from seaanchor.evaluation.bias import evaluate_bias
from seaanchor.evaluation.intervals import proportion
from seaanchor.evaluation.suites import embed_stream, people_texts
from seaanchor.evaluation.typographic import TypographicPlan, reading_pictures
from seaanchor.export.folder import export_model
from seaanchor.export.trained import folded, read_map
from seaanchor.report.figures import steering_picture

TS = (-2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def sweep_typographic(
    model: LoadedModel, weight_DD: Tensor, images: ImageList, plan: TypographicPlan, ts: Sequence[float] = TS, templates: Sequence[str] = ("a photo of a {}.",)
) -> list[dict[str, Any]]:
    """Object accuracy (clean and with a wrong word drawn), attack-word rate, two-way choice and reading accuracy at every t.

    Args:
        model: the untouched model.
        weight_DD: the trained map W.
        images: labelled images.
        plan: how words are drawn.
        ts: exponents of the singular values.
        templates: prompts.
    """
    names, attack = images.class_names or (), plan.attack(images.class_names or ())
    head_CD = build_head(model, names, templates).weight_CD
    clean, attacked, label, word = [], [], [], []
    for batch in batches(FolderDataset(images, model.encoder.image_size), 100, workers=0, order=None, skip_log=SkipLog(images)):
        if batch.label_B is None or len(batch.index_B) == 0:
            continue
        drawn = [attack.draw(i, y, 0, model.encoder.image_size) for i, y in zip(batch.index_B.tolist(), batch.label_B.tolist(), strict=True)]
        with torch.no_grad():
            clean.append(model.encoder(batch.pixels_BCHW).float())
            attacked.append(model.encoder(attack.overlay(batch.pixels_BCHW, [lettering for _, lettering in drawn])).float())
        label.append(batch.label_B)
        word.append(torch.tensor([w for w, _ in drawn]))
    label_N, word_N = torch.cat(label), torch.cat(word)
    written, read_M = reading_pictures(names, model.encoder.image_size, plan, 400)
    with torch.no_grad():
        written_MD = torch.cat([model.encoder(chunk).float() for chunk in written.split(100)])
    rows = []
    for t in ts:
        map_DD = scale_spectrum(weight_DD, t)
        logits = {name: _cosines(x, head_CD, map_DD) for name, x in (("clean", torch.cat(clean)), ("attacked", torch.cat(attacked)), ("read", written_MD))}
        wins_N = logits["attacked"].gather(1, label_N[:, None]) > logits["attacked"].gather(1, word_N[:, None])
        rows.append({
            "t": t, "clean": proportion(logits["clean"].argmax(-1) == label_N), "attacked": proportion(logits["attacked"].argmax(-1) == label_N),
            "attack_word": proportion(logits["attacked"].argmax(-1) == word_N), "two_way": proportion(wins_N.squeeze(1)),
            "reading": proportion(logits["read"].argmax(-1) == read_M),
        })  # fmt: skip
    return rows


def sweep_bias(
    model: LoadedModel, weight_DD: Tensor, images: ImageList, ts: Sequence[float] = TS, templates: Sequence[str] = ("a photo of a {}.",)
) -> list[dict[str, Any]]:
    """Gender accuracy, activity accuracy and retrieval skew at every t, of a people set; arguments as for `sweep_typographic`."""
    stream = batches(FolderDataset(images, model.encoder.image_size), 100, workers=0, order=None, skip_log=SkipLog(images))
    image_ND, index_N = embed_stream(model.encoder, stream)
    _, role_M, gender_M, caption_RGD, neutral_RD = people_texts(model, images, tuple(templates))
    rows = []
    for t in ts:
        map_DD = scale_spectrum(weight_DD, t)
        turned = map_DD.T
        rows.append({"t": t} | evaluate_bias(image_ND @ turned, caption_RGD @ turned, neutral_RD @ turned, role_M[index_N], gender_M[index_N]))
    return rows


def _cosines(embedding_ND: Tensor, head_CD: Tensor, map_DD: Tensor) -> Tensor:
    return F.normalize(embedding_ND @ map_DD.T, dim=-1) @ F.normalize(head_CD @ map_DD.T, dim=-1).T


def base_model(run: Path) -> LoadedModel:
    """The untouched model a run started from.

    Raises:
        SeaAnchorError: the folder holds no run.
    """
    settings = read_yaml(run / "config.yaml")
    return load_model(settings["model"], settings.get("pretrained"), settings.get("image_size"))


def export_at(run: Path, t: float, output: Path) -> Path:
    """Write the model with W_t folded into both projections.

    Raises:
        SeaAnchorError: no linear map in the run, an output folder in use, or a model whose projections cannot take a map.
    """
    if output.exists() and any(output.iterdir()):
        raise SeaAnchorError(f"{output} is not empty", "a new or empty folder", "name another --output")
    weight = without_rotation(scale_spectrum(read_map(run), t))
    with folded(base_model(run), weight) as model:
        return export_model(model, output)


def steering_curve(
    run: Path, data: str, ts: Sequence[float] = (), words: str = "all", sizes: tuple[float, float] = (20 / 224, 40 / 224), seed: int = 0
) -> list[dict]:
    """Evaluate every t, print a table, and write steering.json and steering.png into the run folder.

    Raises:
        SeaAnchorError: no linear map in the run, or data that cannot be evaluated.
    """
    model, weight = base_model(run), read_map(run)
    images = open_images(data, split="test")
    people = (images.root / "people.jsonl").is_file()
    plan = TypographicPlan(words, "unseen", sizes, seed)
    rows = sweep_bias(model, weight, images, ts or TS) if people else sweep_typographic(model, weight, images, plan, ts or TS)
    keys = [key for key, value in rows[0].items() if isinstance(value, dict) and "accuracy" in value]
    print("     t  " + "  ".join(f"{key:>12}" for key in keys))
    for row in rows:
        print(f"{row['t']:>6g}  " + "  ".join(f"{row[key]['accuracy']:>12.1%}" for key in keys))
    (run / "steering.json").write_text(json.dumps({"data": data, "rows": rows}, indent=1))
    steering_picture(rows, keys, run / "steering.png")
    print(f"picture: {run / 'steering.png'}")
    return rows
